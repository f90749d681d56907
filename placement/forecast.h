// What a given plan is expected to do, whoever made it: the cost model's times of its stages.
#pragma once

#include "base/status.h"
#include "placement/batch_costs.h"
#include "placement/plan.h"
#include "placement/planner.h"

namespace thermocline::placement {

// `plan` is valid for the inputs' model and cluster; of the options, request, n_streams,
// n_sequences and n_context count. kInvalidArgument when the cluster lacks one of its workers, two
// that talk have no link, or the cluster's numbers are impossible.
Result<PlanForecast> ForecastPlan(const Plan& plan, const PlannerInputs& inputs,
                                  const PlannerOptions& options);

// Of options.n_streams streams, with as many batches under way as the plan has and each an equal
// share. A round of them takes what one batch takes through all stages, or what the busiest worker
// computes for all of them, whichever is longer. Without a bound. Errors as ForecastPlan.
Result<PlanSpeed> SpeedOf(const Plan& plan, const PlannerInputs& inputs,
                          const PlannerOptions& options);

// The same by costs for the plan's wires: several plans share them.
Result<PlanForecast> ForecastPlan(const Plan& plan, BatchCosts& costs);
Result<PlanSpeed> SpeedOf(const Plan& plan, BatchCosts& costs);

// Of one of the plan's batches under way, among which n_streams are shared out alike.
int64_t SequencesOfBatch(const Plan& plan, int64_t n_streams);

}  // namespace thermocline::placement
