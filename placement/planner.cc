#include "placement/planner.h"

#include <algorithm>
#include <charconv>

#include "base/str.h"
#include "base/units.h"
#include "placement/cluster_stages.h"
#include "placement/context.h"
#include "placement/cost_model.h"
#include "placement/enough_memory.h"
#include "placement/forecast.h"
#include "placement/micro_batches.h"
#include "placement/solver/stage_search.h"
#include "placement/stage_plan.h"

namespace thermocline::placement {
namespace {

// As many of the wanted pages as the leads can hold: the search knew a smaller number, by halves.
void SizeKv(const PlannerInputs& inputs, const ClusterStages& model, int64_t wanted_pages,
            Plan* plan) {
  const uint64_t page_bytes = KvPageBytes(inputs.config, plan->kv);
  uint64_t n_pages = static_cast<uint64_t>(wanted_pages);
  for (const StagePlan& stage : plan->stages) {
    const uint64_t memory = inputs.cluster.FindWorker(stage.lead)->memory_bytes;
    const uint64_t taken = stage.bytes().sum() + model.overhead().OfLead(stage);
    const auto n_layers = static_cast<uint64_t>(stage.layers.end - stage.layers.begin);
    n_pages = std::min(n_pages, (memory - std::min(memory, taken)) / (page_bytes * n_layers));
  }
  plan->kv.n_pages = static_cast<int64_t>(n_pages);
  for (StagePlan& stage : plan->stages) {
    stage.kv_bytes =
        page_bytes * n_pages * static_cast<uint64_t>(stage.layers.end - stage.layers.begin);
  }
}

// With the --memory that would do, unless there is so much: then the policy is what is in the way.
std::string EnoughText(const PlannerInputs& inputs, const PlannerOptions& options,
                       const CostModel& costs, int64_t n_pages) {
  const ClusterStages model(inputs, options, costs, LeastParts::kIgnored, n_pages);
  const size_t n_workers = inputs.cluster.workers.size();
  ClusterProfile other = inputs.cluster;
  const PlannerInputs others{inputs.config, inputs.weights, inputs.sparsity, inputs.heats, other};
  const StageSearchOptions search{.inner = {.objective = {.latency = options.latency_weight},
                                            .policy = SplitPolicy::kPipelineOnly},
                                  .max_group = 1,
                                  .stop = options.stop};
  const auto fits = [&](uint64_t memory_bytes) {
    for (WorkerProfile& worker : other.workers) worker.memory_bytes = memory_bytes;
    const ClusterStages stages(others, options, costs, LeastParts::kIgnored, n_pages);
    return SearchStages(stages, search).ok();
  };
  const uint64_t mib = EnoughMebibytes(model.bytes(), model.overhead(),
                                       model.kv_bytes({0, 1, false, false}), n_workers, fits);
  const bool all_have_it =
      std::all_of(inputs.cluster.workers.begin(), inputs.cluster.workers.end(),
                  [&](const WorkerProfile& worker) { return worker.memory_bytes / kMiB >= mib; });
  if (all_have_it) return "";
  return Str("; --memory ", mib, "M",
             n_workers == 1 ? "" : Str(" of each of ", n_workers, " workers"),
             " is enough (of a --cluster file: `memory: ", mib, "M`)");
}

// By how much, were memory all that counts: a plan may fail by less, for layers and neurons come in
// pieces, or because a helper holds some weights twice.
Status DoesNotFit(const PlannerInputs& inputs, const PlannerOptions& options,
                  const CostModel& costs, int64_t n_pages, const Status& why) {
  const ClusterStages model(inputs, options, costs, LeastParts::kIgnored, n_pages);
  const model::LayerRange all = model.LayersOf(0, model.n_layer());
  const uint64_t held =
      model.bytes().Weights(all) + model.bytes().Relay(all) + model.bytes().Predictors(all);
  const model::LayerRange inner = {0, 1, false, false};
  const uint64_t own = model.overhead().MostOfLead(all, 0) +
                       model.overhead().MostOfLead(inner, 0) * (inputs.cluster.workers.size() - 1);
  const uint64_t needed = held + model.kv_bytes(all) + own;
  uint64_t offered = 0;
  for (const WorkerProfile& worker : inputs.cluster.workers) {
    if (!AddChecked(offered, worker.memory_bytes, &offered)) offered = UINT64_MAX;
  }
  return ResourceExhausted(
      Str("model does not fit: ", why.message(), ": weights ", FormatBytes(held), " + KV for ",
          n_pages * options.request.kv.page_tokens, " tokens ", FormatBytes(model.kv_bytes(all)),
          " + ", FormatBytes(own), " for the workers themselves are ", FormatBytes(needed),
          ", workers offer ", FormatBytes(offered),
          needed > offered ? Str(": ", FormatBytes(needed - offered), " are missing") : "",
          EnoughText(inputs, options, costs, n_pages),
          "; shorter contexts, keys and values in F16, smaller steps or more memory would help"));
}

// One way to look for a plan.
struct Approach {
  SplitPolicy policy;
  LeastParts least_parts;
  bool with_bound = false;  // it may take longer than the search
};

// The plan of one approach, for one size of the KV cache.
Result<PlannedModel> PlanBy(const Approach& approach, const PlannerInputs& inputs,
                            const PlannerOptions& options, const CostModel& costs,
                            int64_t n_pages) {
  const PlanRequest& request = options.request;
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(inputs.config, request));
  const StageSearchOptions search{
      .inner = {.objective = {.latency = options.latency_weight}, .policy = approach.policy},
      .max_group = options.max_group,
      .with_bound = approach.with_bound,
      .stop = options.stop};
  const ClusterStages model(inputs, options, costs, approach.least_parts, n_pages);
  TC_ASSIGN_OR_RETURN(const StageSearchResult found, SearchStages(model, search));
  Plan plan{.epoch = request.epoch,
            .model_fingerprint = request.model_fingerprint,
            .n_layer = inputs.config.n_layer,
            .stages = {},
            .link = request.link,
            .wire = request.wire,
            .kv = request.kv};
  for (const StageChoice& choice : found.stages) {
    plan.stages.push_back(ToStage(choice, model, costs));
  }
  ChooseLinks(inputs.cluster, request, {}, &plan);
  SizeKv(inputs, model, demand.wanted_pages, &plan);
  plan.n_ctx = demand.ContextOf(plan.kv.n_pages, request.kv.page_tokens);
  TC_RETURN_IF_ERROR(ValidatePlan(plan, inputs.config, inputs.weights, inputs.cluster, request));
  TC_ASSIGN_OR_RETURN(plan.micro_batches, ChooseMicroBatches(plan, inputs, options));
  TC_ASSIGN_OR_RETURN(PlanForecast forecast, ForecastPlan(plan, inputs, options));
  // What rows by neuron cost in sums over blocks may be a little more than the whole.
  forecast.lower_bound_s = std::min(found.lower_bound, forecast.objective_s);
  forecast.structure_bound_s = found.structure_bound;
  return PlannedModel{std::move(plan), std::move(forecast)};
}

// The outer search goes by estimates, so that a baseline can be ahead of it by a little.
constexpr Approach kBaselines[] = {{SplitPolicy::kPipelineOnly, LeastParts::kIgnored},
                                   {SplitPolicy::kProportional, LeastParts::kIgnored},
                                   {SplitPolicy::kFrequencyGreedy, LeastParts::kIgnored},
                                   {SplitPolicy::kPowerInfer, LeastParts::kIgnored}};
// What the rule of least parts may cost before it gives way: where memory is tight a part that does
// not pay for its messages can be the only one that has room.
constexpr double kLeastPartsMayCost = 0.01;

// Takes `next` for `best` where it is better by more than `margin`, or where there is none yet.
void TakeBetter(Result<PlannedModel> next, double margin, Result<PlannedModel>* best) {
  if (!next.ok()) return;
  if (best->ok() && next->forecast.objective_s * (1 + margin) >= (*best)->forecast.objective_s) {
    return;
  }
  *best = std::move(next);
}

bool HaveSameStages(const Plan& a, const Plan& b) {
  const auto same_helpers = [](const std::vector<HelperPlan>& x, const std::vector<HelperPlan>& y) {
    return std::is_permutation(
        x.begin(), x.end(), y.begin(), y.end(),
        [](const HelperPlan& p, const HelperPlan& q) { return p.worker == q.worker; });
  };
  return std::equal(a.stages.begin(), a.stages.end(), b.stages.begin(), b.stages.end(),
                    [&](const StagePlan& x, const StagePlan& y) {
                      return x.lead == y.lead && x.layers == y.layers &&
                             same_helpers(x.helpers, y.helpers);
                    });
}

// No worse than any baseline. kResourceExhausted when there is no plan that fits.
Result<PlannedModel> BestPlan(const PlannerInputs& inputs, const PlannerOptions& options,
                              const CostModel& costs, int64_t n_pages) {
  const auto plan_by = [&](const Approach& approach) {
    return PlanBy(approach, inputs, options, costs, n_pages);
  };
  if (options.policy != SplitPolicy::kOptimal) {
    return plan_by({options.policy, LeastParts::kIgnored, true});
  }
  Result<PlannedModel> best = plan_by({SplitPolicy::kOptimal, LeastParts::kKept});
  // Its bounds are of all plans, not only of those that keep the rule.
  Result<PlannedModel> free = plan_by({SplitPolicy::kOptimal, LeastParts::kIgnored, true});
  for (const Result<PlannedModel>* plan : {&best, &free}) {
    const Status& status = plan->status();
    if (!status.ok() && status.code() != StatusCode::kResourceExhausted) return status;
  }
  if (!best.ok() && !free.ok()) return best;
  const PlannedModel of_all = free.ok() ? *free : PlannedModel{};
  TakeBetter(std::move(free), kLeastPartsMayCost, &best);
  for (const Approach& baseline : kBaselines) TakeBetter(plan_by(baseline), 0, &best);
  PlanForecast& forecast = best->forecast;
  forecast.lower_bound_s = std::min(of_all.forecast.lower_bound_s, forecast.objective_s);
  forecast.structure_bound_s =
      HaveSameStages(best->plan, of_all.plan)
          ? std::min(of_all.forecast.structure_bound_s, forecast.objective_s)
          : 0;
  return best;
}

Status CheckInputs(const PlannerInputs& inputs, const PlannerOptions& options) {
  if (inputs.cluster.workers.empty()) return InvalidArgument("cluster has no workers");
  if (inputs.cluster.workers.size() > kMaxSplitDevices) {
    return InvalidArgument(Str(
        "cluster has too many workers to plan for:", Kv("workers", inputs.cluster.workers.size()),
        Kv("max", kMaxSplitDevices)));
  }
  if (inputs.config.n_layer < 1) {
    return InvalidArgument(Str("model has no layers:", Kv("n_layer", inputs.config.n_layer)));
  }
  if (!(options.latency_weight >= 0 && options.latency_weight <= 1)) {
    return InvalidArgument(Str("weight of latency is not within 0..1: ", options.latency_weight));
  }
  if (options.n_sequences < 1 || options.n_sequences > kMaxParallel || options.max_group < 1) {
    return InvalidArgument(
        Str("sequences or members of a stage out of range:", Kv("sequences", options.n_sequences),
            Kv("members", options.max_group)));
  }
  for (const WorkerProfile& from : inputs.cluster.workers) {
    for (const WorkerProfile& to : inputs.cluster.workers) {
      if (from.id == to.id || inputs.cluster.FindLink(from.id, to.id) != nullptr) continue;
      return InvalidArgument(Str("no link from worker ", from.id, " to worker ", to.id));
    }
  }
  return ValidateCluster(inputs.cluster);
}

}  // namespace

CostInputs CostInputsOf(const PlannerInputs& inputs, const PlannerOptions& options) {
  return {.config = inputs.config,
          .weights = inputs.weights,
          .sparsity = inputs.sparsity,
          .heats = inputs.heats,
          .cluster = inputs.cluster,
          .ffn = options.request.ffn,
          .step = {.n_sequences = options.n_sequences,
                   .n_context = options.n_context,
                   .kv_dtype = options.request.kv.dtype},
          .wires = PairWires::Of(options.request, inputs.cluster)};
}

Result<double> ParseObjective(std::string_view objective) {
  if (objective == "latency") return 1.0;
  if (objective == "throughput") return 0.0;
  if (objective == "weighted") return 0.5;
  double weight = -1;
  const char* const end = objective.data() + objective.size();
  const auto parsed = std::from_chars(objective.data(), end, weight);
  if (parsed.ec == std::errc() && parsed.ptr == end && weight >= 0 && weight <= 1) return weight;
  return InvalidArgument(
      Str("--objective is not latency, throughput, weighted or a weight of latency within 0..1: ",
          Printable(objective)));
}

std::string_view DefaultObjective(int n_streams) { return n_streams > 1 ? "weighted" : "latency"; }

int64_t SequencesPerStep(int n_streams, size_t n_workers) {
  const auto n = static_cast<int64_t>(std::max<size_t>(1, n_workers));
  return (n_streams + n - 1) / n;
}

Result<PlannedModel> MakePlan(const PlannerInputs& inputs, const PlannerOptions& options) {
  TC_RETURN_IF_ERROR(CheckInputs(inputs, options));
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(inputs.config, options.request));
  const CostModel costs(CostInputsOf(inputs, options));
  // Fewer pages by halves until something fits; the last try is for a single sequence.
  int64_t n_pages = demand.wanted_pages;
  Result<PlannedModel> plan = BestPlan(inputs, options, costs, n_pages);
  while (plan.status().code() == StatusCode::kResourceExhausted && n_pages > demand.least_pages) {
    n_pages = std::max(demand.least_pages, n_pages / 2);
    plan = BestPlan(inputs, options, costs, n_pages);
  }
  if (plan.ok()) {
    TC_ASSIGN_OR_RETURN(plan->speed, SpeedOf(plan->plan, inputs, options));
    return plan;
  }
  if (plan.status().code() != StatusCode::kResourceExhausted) return plan;
  return DoesNotFit(inputs, options, costs, n_pages, plan.status());
}

}  // namespace thermocline::placement
