// How many batches a stage with helpers should have under way: whether hiding the way to helpers
// and back is worth reading the weights once more.
#pragma once

#include "base/status.h"
#include "placement/plan.h"
#include "placement/planner.h"

namespace thermocline::placement {

// The number that generates the most tokens for options.n_sequences sequences, 1 where no stage has
// helpers. With M batches under way each has 1/M of the sequences, and a round of all of them takes
// what one batch takes through all stages, or M times what the busiest worker computes for one,
// whichever is longer. Errors as ForecastPlan.
Result<int> ChooseMicroBatches(const Plan& plan, const PlannerInputs& inputs,
                               const PlannerOptions& options);

}  // namespace thermocline::placement
