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

// Of options.n_streams streams, with as many batches under way as the plan has and each an equal
// share. A round of them takes what one batch takes through all stages, or what the busiest worker
// computes for all of them, whichever is longer. Errors as ForecastPlan.
Result<PlanSpeed> SpeedOf(const Plan& plan, const PlannerInputs& inputs,
                          const PlannerOptions& options);

}  // namespace thermocline::placement
