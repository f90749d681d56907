#include "placement/forecast.h"

#include <algorithm>

#include "base/str.h"
#include "placement/cost_model.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {
namespace {

Status CheckLink(const ClusterProfile& cluster, WorkerId from, WorkerId to) {
  if (cluster.FindLink(from, to) != nullptr && cluster.FindLink(to, from) != nullptr) {
    return OkStatus();
  }
  return InvalidArgument(Str("no link between worker ", from, " and worker ", to));
}

Status CheckLinks(const Plan& plan, const ClusterProfile& cluster) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    if (i > 0) TC_RETURN_IF_ERROR(CheckLink(cluster, plan.stages[i - 1].lead, stage.lead));
    for (const HelperPlan& helper : stage.helpers) {
      TC_RETURN_IF_ERROR(CheckLink(cluster, stage.lead, helper.worker));
    }
  }
  return OkStatus();
}

SplitCost CostOf(const StagePlan& stage, const CostModel& costs, int64_t n_ff) {
  Group group = {stage.lead};
  HeldNeurons held = {stage.neurons};
  // A lead alone holds all neurons.
  if (stage.neurons.empty()) {
    held[0].assign(static_cast<size_t>(stage.layers.end - stage.layers.begin), {0, n_ff});
  }
  for (const HelperPlan& helper : stage.helpers) {
    group.push_back(helper.worker);
    held.push_back(helper.neurons);
  }
  HeldSplit split = costs.ProblemOf(group, stage.layers, held);
  if (stage.layers.has_embed)
    split.problem.layers.front().fixed_s += costs.EmbedSeconds(stage.lead);
  if (stage.layers.has_head) split.problem.layers.back().fixed_s += costs.HeadSeconds(stage.lead);
  return Evaluate(split.problem, split.split);
}

}  // namespace

Result<PlanForecast> ForecastPlan(const Plan& plan, const PlannerInputs& inputs,
                                  const PlannerOptions& options) {
  TC_RETURN_IF_ERROR(ValidateCluster(inputs.cluster));
  TC_RETURN_IF_ERROR(CheckLinks(plan, inputs.cluster));
  const CostModel costs(CostInputsOf(inputs, options));
  const uint64_t overhead_bytes = OverheadBytes(inputs.config, options.request.max_step_tokens);
  PlanForecast forecast{.n_sequences = options.n_sequences};
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const SplitCost cost = CostOf(stage, costs, inputs.config.n_ff);
    auto& own = forecast.stages.emplace_back();
    own.seconds = cost.seconds;
    own.members.push_back(
        {stage.lead, cost.busy_s[0], stage.bytes().sum() + stage.kv_bytes + overhead_bytes});
    for (size_t h = 0; h < stage.helpers.size(); ++h) {
      own.members.push_back({stage.helpers[h].worker, cost.busy_s[h + 1],
                             stage.helpers[h].bytes.sum() + overhead_bytes});
    }
    forecast.step_s += cost.seconds;
    if (i > 0) forecast.step_s += costs.HopSeconds(plan.stages[i - 1].lead, stage.lead);
    forecast.bottleneck_s = std::max(forecast.bottleneck_s, cost.bottleneck_s());
  }
  forecast.objective_s = options.latency_weight * forecast.step_s +
                         (1 - options.latency_weight) * forecast.bottleneck_s;
  return forecast;
}

}  // namespace thermocline::placement
