// How many batches a stage with helpers should have under way: whether hiding the way to helpers
// and back is worth reading the weights once more.
#pragma once

#include "base/status.h"
#include "placement/batch_costs.h"
#include "placement/plan.h"

namespace thermocline::placement {

// The least number with which all streams together generate nearly the most tokens, 1 where no
// stage has helpers. What a plan is worth (PlanSpeed::value_s) depends on it by nothing else.
// Errors as SpeedOf.
Result<int> ChooseMicroBatches(const Plan& plan, BatchCosts& costs);

}  // namespace thermocline::placement
