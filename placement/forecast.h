// What a given plan is expected to do, whoever made it: the cost model's times of its stages.
#pragma once

#include "base/status.h"
#include "placement/plan.h"
#include "placement/planner.h"

namespace thermocline::placement {

// `plan` is valid for the inputs' model and cluster; of the options, request, n_sequences,
// n_context and latency_weight count. The bounds of the result are 0: they are the solver's to
// prove. kInvalidArgument when the cluster lacks one of its workers, two that talk have no link, or
// the cluster's numbers are impossible.
Result<PlanForecast> ForecastPlan(const Plan& plan, const PlannerInputs& inputs,
                                  const PlannerOptions& options);

}  // namespace thermocline::placement
