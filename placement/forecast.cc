#include "placement/forecast.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/str.h"
#include "placement/batch_costs.h"
#include "placement/card_group.h"
#include "placement/context.h"
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

Status CheckMember(const ClusterProfile& cluster, WorkerId worker) {
  if (cluster.FindWorker(worker) != nullptr) return OkStatus();
  return InvalidArgument(Str("plan names a worker that the cluster lacks: worker ", worker));
}

Status CheckMembers(const Plan& plan, const ClusterProfile& cluster) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    TC_RETURN_IF_ERROR(CheckMember(cluster, stage.lead));
    if (i > 0) TC_RETURN_IF_ERROR(CheckLink(cluster, plan.stages[i - 1].lead, stage.lead));
    for (const HelperPlan& helper : stage.helpers) {
      TC_RETURN_IF_ERROR(CheckMember(cluster, helper.worker));
      TC_RETURN_IF_ERROR(CheckLink(cluster, stage.lead, helper.worker));
    }
  }
  return OkStatus();
}

struct StageCosts {
  const PlannerInputs& inputs;
  const CostModel& costs;
  const ModelBytes& bytes;
  const OverheadModel& overhead;
};

struct Members {
  Group group;
  HeldNeurons held;
  std::vector<CostModel::MemberHeads> heads;
};

Members MembersOf(const StagePlan& stage, const PlannerInputs& inputs) {
  Members members{.group = {stage.lead}, .held = {stage.neurons}, .heads = {{stage.heads}}};
  const int64_t n_ff = inputs.config.n_ff;
  // A lead alone holds all neurons.
  if (stage.neurons.empty()) {
    members.held[0].assign(static_cast<size_t>(stage.layers.end - stage.layers.begin), {0, n_ff});
  }
  const CardGroup cards = stage.shares_heads() ? GroupOf(stage, inputs.cluster) : CardGroup{};
  for (size_t h = 0; h < stage.helpers.size(); ++h) {
    const HelperPlan& helper = stage.helpers[h];
    members.group.push_back(helper.worker);
    members.held.push_back(helper.neurons);
    members.heads.push_back({helper.heads, cards.has_heads && cards.Has(static_cast<int>(h))});
  }
  return members;
}

uint64_t BytesOf(const StageCosts& costs, const Members& members, size_t m, int layer, size_t at) {
  const model::LayerRange one = {layer, layer + 1, false, false};
  const std::vector<NeuronRange> held = {members.held[m][at]};
  const NeuronRows rows = costs.inputs.cluster.RowsOf(members.group[m]);
  const HeadRange& heads = members.heads[m].held;
  return (m == 0 ? costs.bytes.LeadPart(one, held, rows, heads)
                 : costs.bytes.HelperPart(one, held, rows, heads))
      .sum();
}

PlanForecast::Layer LayerOf(const StageCosts& costs, const HeldSplit& split, const Members& members,
                            int layer, size_t at) {
  const SplitLayer& problem = split.problem.layers[at];
  const LayerSplit& ranges = split.split[at];
  PlanForecast::Layer own{.mode = costs.costs.ModeOf(layer),
                          .before_ffn_s = problem.fixed_s,
                          .ffn_s = FfnSeconds(split.problem, problem, ranges)};
  for (size_t m = 0; m < ranges.size(); ++m) {
    const SplitDevice& device = split.problem.devices[m];
    const bool takes_part = !ranges[m].empty();
    own.parts_s.push_back(takes_part ? device.part_s +
                                           problem.seconds[m][static_cast<size_t>(ranges[m].end)] -
                                           problem.seconds[m][static_cast<size_t>(ranges[m].begin)]
                                     : 0);
    own.bytes.push_back(BytesOf(costs, members, m, layer, at));
    own.active.push_back(takes_part ? problem.ActiveIn(ranges[m]) : 0);
    own.least_active.push_back(problem.least_active[m]);
    if (takes_part) own.links_s += device.send_s + device.round_trip_s;
  }
  const double busy = BusySeconds(split.problem, problem, ranges, 0) - problem.fixed_s;
  own.wait_s = std::max(0.0, own.ffn_s - busy);
  return own;
}

PlanForecast::Stage StageOf(const StageCosts& costs, const StagePlan& stage) {
  const Members members = MembersOf(stage, costs.inputs);
  HeldSplit split = costs.costs.ProblemOf(members.group, stage.layers, members.held);
  std::vector<double> more_busy_s(members.group.size(), 0);  // than the split knows
  for (int layer = stage.layers.begin; layer < stage.layers.end && stage.shares_heads(); ++layer) {
    const auto attention = costs.costs.AttentionOf(members.group, layer, members.heads);
    split.problem.layers[static_cast<size_t>(layer - stage.layers.begin)].fixed_s =
        attention.seconds;
    more_busy_s[0] -= attention.seconds;
    for (size_t m = 0; m < more_busy_s.size(); ++m) more_busy_s[m] += attention.busy_s[m];
  }
  LimitSeconds(&split.problem);
  PlanForecast::Stage own;
  for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
    const auto at = static_cast<size_t>(layer - stage.layers.begin);
    own.layers.push_back(LayerOf(costs, split, members, layer, at));
  }
  if (stage.layers.has_embed) own.embed_s = costs.costs.EmbedSeconds(stage.lead);
  if (stage.layers.has_head) own.head_s = costs.costs.HeadSeconds(stage.lead);
  split.problem.layers.front().fixed_s += own.embed_s;
  split.problem.layers.back().fixed_s += own.head_s;
  LimitSeconds(&split.problem);
  const SplitCost cost = Evaluate(split.problem, split.split);
  own.seconds = cost.seconds;
  const auto holder = [&](WorkerId id) { return HolderOf(*costs.inputs.cluster.FindWorker(id)); };
  own.members.push_back(
      {stage.lead, cost.busy_s[0] + more_busy_s[0],
       stage.bytes().sum() + stage.kv_bytes + costs.overhead.OfLead(stage, holder(stage.lead))});
  for (size_t h = 0; h < stage.helpers.size(); ++h) {
    const HelperPlan& helper = stage.helpers[h];
    own.members.push_back({helper.worker, cost.busy_s[h + 1] + more_busy_s[h + 1],
                           helper.bytes.sum() + helper.kv_bytes +
                               costs.overhead.OfHelper(stage, helper, holder(helper.worker))});
  }
  return own;
}

// Workers of a host compute no more at once than it has cores.
double HostBottleneck(const ClusterProfile& cluster, const PlanForecast& forecast) {
  std::map<std::string, double> core_seconds;  // by host
  double most = 0;
  for (const PlanForecast::Stage& stage : forecast.stages) {
    for (const PlanForecast::Member& member : stage.members) {
      const WorkerProfile& worker = *cluster.FindWorker(member.worker);
      if (worker.host.empty() || worker.n_cores <= 0) continue;
      double& host_s = core_seconds[worker.host];
      host_s += member.busy_s * worker.n_threads;
      most = std::max(most, host_s / worker.n_cores);
    }
  }
  return most;
}

int64_t DivideUp(int64_t n, int64_t by) { return (n + by - 1) / by; }

PlanForecast ForecastStep(const Plan& plan, BatchCosts& by_batch, int64_t n_sequences) {
  const StageCosts costs{.inputs = by_batch.inputs(),
                         .costs = by_batch.Of(n_sequences),
                         .bytes = by_batch.bytes(),
                         .overhead = by_batch.overhead()};
  PlanForecast forecast{.n_sequences = n_sequences};
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    PlanForecast::Stage& own = forecast.stages.emplace_back(StageOf(costs, plan.stages[i]));
    forecast.step_s += own.seconds;
    if (i > 0) {
      forecast.step_s += costs.costs.HopSeconds(plan.stages[i - 1].lead, plan.stages[i].lead);
    }
    for (const PlanForecast::Member& member : own.members) {
      forecast.bottleneck_s = std::max(forecast.bottleneck_s, member.busy_s);
    }
  }
  const double host_s = HostBottleneck(by_batch.inputs().cluster, forecast);
  forecast.bottleneck_s = std::max(forecast.bottleneck_s, host_s);
  forecast.step_s = std::max(forecast.step_s, host_s);
  return forecast;
}

double TokensPerSecond(const Plan& plan, BatchCosts& costs, int64_t n_streams) {
  const int64_t n_sequences = SequencesOfBatch(plan, n_streams);
  const PlanForecast batch = ForecastStep(plan, costs, n_sequences);
  const auto n_batches = static_cast<double>(DivideUp(n_streams, n_sequences));
  return static_cast<double>(n_streams) / std::max(batch.step_s, n_batches * batch.bottleneck_s);
}

Status CheckPlan(const Plan& plan, const PlannerInputs& inputs) {
  TC_RETURN_IF_ERROR(ValidateCluster(inputs.cluster));
  return CheckMembers(plan, inputs.cluster);
}

}  // namespace

int64_t SequencesOfBatch(const Plan& plan, int64_t n_streams) {
  return DivideUp(n_streams, plan.batches_under_way());
}

Result<PlanForecast> ForecastPlan(const Plan& plan, BatchCosts& costs) {
  TC_RETURN_IF_ERROR(CheckPlan(plan, costs.inputs()));
  const PlannerOptions& options = costs.options();
  const int64_t n_sequences =
      options.n_sequences > 0 ? options.n_sequences : SequencesOfBatch(plan, StreamsOf(options));
  return ForecastStep(plan, costs, n_sequences);
}

Result<PlanSpeed> SpeedOf(const Plan& plan, BatchCosts& costs) {
  TC_RETURN_IF_ERROR(CheckPlan(plan, costs.inputs()));
  const double latency = costs.options().latency_weight;
  const int64_t n_streams = StreamsOf(costs.options());
  PlanSpeed speed{.n_streams = n_streams,
                  .n_streams_asked = n_streams,
                  .n_streams_held = StreamsHeld(plan, costs.options())};
  speed.one_tokens_per_s = TokensPerSecond(plan, costs, 1);
  speed.all_tokens_per_s = TokensPerSecond(plan, costs, speed.n_streams);
  speed.value_s = latency / speed.one_tokens_per_s + (1 - latency) / speed.all_tokens_per_s;
  return speed;
}

int64_t StreamsHeld(const Plan& plan, const PlannerOptions& options) {
  const int64_t n_tokens =
      std::clamp<int64_t>(options.n_context + 1, 1, std::max<int64_t>(plan.n_ctx, 1));
  const int64_t n_pages = PagesOf(n_tokens, std::max(plan.kv.page_tokens, 1));
  return std::clamp<int64_t>(plan.kv.n_pages / n_pages, 1, StreamsOf(options));
}

Result<PlannedModel> JudgePlan(Plan plan, const PlannerInputs& inputs,
                               const PlannerOptions& options) {
  PlannerOptions held = options;
  held.n_streams = StreamsHeld(plan, options);
  BatchCosts costs(inputs, held, PairWires::Of(plan));
  PlannedModel judged;
  TC_ASSIGN_OR_RETURN(judged.forecast, ForecastPlan(plan, costs));
  TC_ASSIGN_OR_RETURN(judged.speed, SpeedOf(plan, costs));
  judged.speed.n_streams_asked = StreamsOf(options);
  judged.plan = std::move(plan);
  return judged;
}

std::string HeldText(const PlanSpeed& speed) {
  if (speed.n_streams_held >= speed.n_streams_asked) return "";
  return Str("its KV cache holds ", speed.n_streams_held, " of the ", speed.n_streams_asked,
             " streams asked for; speeds are of ",
             speed.n_streams > speed.n_streams_held ? "all " : "", speed.n_streams);
}

Result<PlanForecast> ForecastPlan(const Plan& plan, const PlannerInputs& inputs,
                                  const PlannerOptions& options) {
  BatchCosts costs(inputs, options, PairWires::Of(plan));
  return ForecastPlan(plan, costs);
}

Result<PlanSpeed> SpeedOf(const Plan& plan, const PlannerInputs& inputs,
                          const PlannerOptions& options) {
  BatchCosts costs(inputs, options, PairWires::Of(plan));
  return SpeedOf(plan, costs);
}

}  // namespace thermocline::placement
