// What a given plan is expected to do, whoever made it: the cost model's times of its stages.
#pragma once

#include <string>

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

// Both of a plan that somebody gave, for as many of options.n_streams as its KV holds: others would
// wait. Errors as ForecastPlan.
Result<PlannedModel> JudgePlan(Plan plan, const PlannerInputs& inputs,
                               const PlannerOptions& options);
// The streams that the plan's KV holds at once, each with options.n_context tokens and the next
// one, or all that a sequence may have: at most options.n_streams, and 1 at least.
int64_t StreamsHeld(const Plan& plan, const PlannerOptions& options);
// "its KV cache holds 3 of the 8 streams asked for; speeds are of 3", or of all 8 where the search
// has counted them; "" where it holds all.
std::string HeldText(const PlanSpeed& speed);

// The same by costs for the plan's wires: several plans share them.
Result<PlanForecast> ForecastPlan(const Plan& plan, BatchCosts& costs);
Result<PlanSpeed> SpeedOf(const Plan& plan, BatchCosts& costs);

// Of one of the plan's batches under way, among which n_streams are shared out alike.
int64_t SequencesOfBatch(const Plan& plan, int64_t n_streams);

}  // namespace thermocline::placement
