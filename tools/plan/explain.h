// A plan for people: who does what, how long it takes, why, and how far from the best it can be.
#pragma once

#include <string>
#include <vector>

#include "placement/planner.h"
#include "tools/plan/inputs.h"

namespace thermocline::tools {

// What another policy would have done.
struct PolicyOutcome {
  placement::SplitPolicy policy;
  std::string why_not;  // it found no plan; else ""
  placement::PlanSpeed speed;
};

std::string ExplainPlan(const PlanSources& sources, const placement::PlannedModel& planned,
                        const std::vector<PolicyOutcome>& others);

// Where the time of every layer goes.
std::string ExplainLayers(const placement::PlannedModel& planned);

// Workers of the cluster that have no place in the plan. The cluster outlives the answer.
std::vector<const placement::WorkerProfile*> SparesOf(const placement::ClusterProfile& cluster,
                                                      const placement::Plan& plan);

// What a worker holds of the neurons of a layer of its stage, 0 to 1; by stage, member and layer.
double NeuronShare(const placement::StagePlan& stage, size_t member, size_t layer, int64_t n_ff);

}  // namespace thermocline::tools
