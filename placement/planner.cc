#include "placement/planner.h"

#include <algorithm>
#include <charconv>

#include "base/str.h"
#include "base/thread_pool.h"
#include "placement/batch_costs.h"
#include "placement/cluster_stages.h"
#include "placement/context.h"
#include "placement/cut_reason.h"
#include "placement/forecast.h"
#include "placement/micro_batches.h"
#include "placement/no_fit.h"
#include "placement/op_time.h"
#include "placement/search_aims.h"
#include "placement/share_heads.h"
#include "placement/solver/cluster_bound.h"
#include "placement/solver/stage_search.h"
#include "placement/stage_plan.h"
#include "placement/value_bound.h"

namespace thermocline::placement {
namespace {

// As many of the wanted pages as the leads can hold: the search knew a smaller number, by halves.
void SizeKv(const PlannerInputs& inputs, const ClusterStages& model, int64_t wanted_pages,
            Plan* plan) {
  const uint64_t page_bytes = KvPageBytes(inputs.config, plan->kv);
  uint64_t n_pages = static_cast<uint64_t>(wanted_pages);
  for (const StagePlan& stage : plan->stages) {
    const WorkerProfile& lead = *inputs.cluster.FindWorker(stage.lead);
    const uint64_t memory = lead.memory_bytes;
    const uint64_t taken = stage.bytes().sum() + model.overhead().OfLead(stage, HolderOf(lead));
    const auto n_layers = static_cast<uint64_t>(stage.layers.end - stage.layers.begin);
    n_pages = std::min(n_pages, (memory - std::min(memory, taken)) / (page_bytes * n_layers));
  }
  plan->kv.n_pages = static_cast<int64_t>(n_pages);
  for (StagePlan& stage : plan->stages) {
    stage.kv_bytes =
        page_bytes * n_pages * static_cast<uint64_t>(stage.layers.end - stage.layers.begin);
  }
}

// One way to look for a plan.
struct Approach {
  SplitPolicy policy;
  LeastParts least_parts;
  SearchAim aim;
};

// The plan of one approach, for one size of the KV cache.
Result<PlannedModel> PlanBy(const Approach& approach, BatchCosts& costs, int64_t n_pages) {
  const PlannerInputs& inputs = costs.inputs();
  const PlanRequest& request = costs.options().request;
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(inputs.config, request));
  const StageSearchOptions search{
      .inner = {.objective = {.latency = approach.aim.latency}, .policy = approach.policy},
      .max_group = costs.options().max_group,
      .with_bound = false,
      .stop = costs.options().stop};
  const ClusterStages model(costs, approach.aim.n_sequences, approach.least_parts, n_pages);
  TC_ASSIGN_OR_RETURN(const StageSearchResult found, SearchStages(model, search));
  Plan plan{.epoch = request.epoch,
            .model_fingerprint = request.model_fingerprint,
            .n_layer = inputs.config.n_layer,
            .stages = {},
            .link = request.link,
            .wire = request.wire,
            .kv = request.kv};
  for (const StageChoice& choice : found.stages) plan.stages.push_back(ToStage(choice, model));
  ChooseLinks(inputs.cluster, request, {}, &plan);
  SizeKv(inputs, model, demand.wanted_pages, &plan);
  plan.n_ctx = demand.ContextOf(plan.kv.n_pages, request.kv.page_tokens);
  TC_RETURN_IF_ERROR(ValidatePlan(plan, inputs.config, inputs.weights, inputs.cluster, request));
  TC_ASSIGN_OR_RETURN(plan.micro_batches, ChooseMicroBatches(plan, costs));
  TC_ASSIGN_OR_RETURN(const PlanSpeed speed, SpeedOf(plan, costs));
  if (costs.options().on_found) costs.options().on_found(speed);
  return PlannedModel{std::move(plan), {}, speed};
}

// The outer search goes by estimates and by one size of batches, so that a baseline can be ahead of
// it by a little.
constexpr SplitPolicy kBaselines[] = {SplitPolicy::kPipelineOnly, SplitPolicy::kProportional,
                                      SplitPolicy::kFrequencyGreedy, SplitPolicy::kPowerInfer};
// What the rule of least parts may cost before it gives way: where memory is tight a part that does
// not pay for its messages can be the only one that has room.
constexpr double kLeastPartsMayCost = 0.01;

// Takes `next` for `best` where it is better by more than `margin`, or where there is none yet.
void TakeBetter(Result<PlannedModel> next, double margin, Result<PlannedModel>* best) {
  if (!next.ok()) return;
  if (best->ok() && next->speed.value_s * (1 + margin) >= (*best)->speed.value_s) return;
  *best = std::move(next);
}

// Plans of each aim and policy, of which the value chooses. kResourceExhausted when none fits.
class PlanSearch {
 public:
  PlanSearch(BatchCosts& costs, int64_t n_pages)
      : costs_(costs), n_pages_(n_pages), aims_(AimsOf(costs)) {}

  // No worse than any baseline.
  Result<PlannedModel> Best() {
    const SplitPolicy policy = costs_.options().policy;
    if (policy != SplitPolicy::kOptimal) {
      return BestOf(ForAims(policy, LeastParts::kIgnored), nullptr);
    }
    // Baselines first, though they count last: most are found soon, and whoever waits hears of
    // them.
    Result<PlannedModel> baseline = BestOf(Baselines(), nullptr);
    if (is_stopped()) return Aborted("planning was stopped");
    Approach found{};
    Result<PlannedModel> best = BestOf(ForAims(policy, LeastParts::kKept), &found);
    if (is_stopped()) return Aborted("planning was stopped");
    std::vector<Approach> free = ForAims(policy, LeastParts::kIgnored);
    if (best.ok()) free = {{policy, LeastParts::kIgnored, found.aim}};
    TakeBetter(BestOf(free, nullptr), kLeastPartsMayCost, &best);
    TakeBetter(std::move(baseline), 0, &best);
    if (is_stopped()) return Aborted("planning was stopped");
    return best;
  }

 private:
  bool is_stopped() const {
    const std::atomic<bool>* const stop = costs_.options().stop;
    return stop != nullptr && *stop;
  }
  std::vector<Approach> ForAims(SplitPolicy policy, LeastParts least_parts) const {
    std::vector<Approach> approaches;
    for (const SearchAim& aim : aims_) approaches.push_back({policy, least_parts, aim});
    return approaches;
  }
  std::vector<Approach> Baselines() const {
    std::vector<Approach> baselines;
    for (const SplitPolicy baseline : kBaselines) {
      for (const Approach& approach : ForAims(baseline, LeastParts::kIgnored)) {
        baselines.push_back(approach);
      }
    }
    return baselines;
  }

  // Two at a time; the first of equal ones, whichever was there first.
  Result<PlannedModel> BestOf(const std::vector<Approach>& approaches, Approach* found) {
    std::vector<Result<PlannedModel>> plans(approaches.size(), ResourceExhausted("no plan fits"));
    const auto plan = [&](int64_t i, int) {
      const auto at = static_cast<size_t>(i);
      plans[at] = PlanBy(approaches[at], costs_, n_pages_);
    };
    if (approaches.size() > 1) {
      TC_ASSIGN_OR_RETURN(const auto pool, ThreadPool::Create({.n_threads = 2, .name = "plan"}));
      pool->ParallelFor(static_cast<int64_t>(plans.size()), plan);
    } else {
      plan(0, 0);
    }
    Result<PlannedModel> best = plans.front().status().ok()
                                    ? Result<PlannedModel>(ResourceExhausted("no plan fits"))
                                    : Result<PlannedModel>(plans.front().status());
    for (size_t i = 0; i < plans.size(); ++i) {
      const bool fits_not = plans[i].status().code() == StatusCode::kResourceExhausted;
      if (!plans[i].ok() && !fits_not) return plans[i];
      const bool is_better =
          plans[i].ok() && (!best.ok() || plans[i]->speed.value_s < best->speed.value_s);
      if (is_better && found != nullptr) *found = approaches[i];
      TakeBetter(std::move(plans[i]), 0, &best);
    }
    return best;
  }

  BatchCosts& costs_;
  const int64_t n_pages_;
  const std::vector<SearchAim> aims_;
};

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
  if (options.n_sequences < 0 || options.n_sequences > kMaxParallel ||
      options.n_streams > kMaxParallel || options.max_group < 1) {
    return InvalidArgument(Str(
        "streams, sequences or members of a stage out of range:", Kv("streams", options.n_streams),
        Kv("sequences", options.n_sequences), Kv("members", options.max_group)));
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

CostInputs CostInputsOf(const PlannerInputs& inputs, const PlannerOptions& options,
                        int64_t n_sequences) {
  return {.config = inputs.config,
          .weights = inputs.weights,
          .sparsity = inputs.sparsity,
          .heats = inputs.heats,
          .cluster = inputs.cluster,
          .ffn = options.request.ffn,
          .step = {.n_sequences = n_sequences,
                   .n_context = options.n_context,
                   .kv_dtype = options.request.kv.dtype},
          .wires = PairWires::Of(options.request, inputs.cluster)};
}

bool SharesHeads(const Plan& plan) {
  return std::any_of(plan.stages.begin(), plan.stages.end(),
                     [](const StagePlan& stage) { return stage.shares_heads(); });
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

Result<PlannedModel> MakePlan(const PlannerInputs& inputs, const PlannerOptions& options) {
  TC_RETURN_IF_ERROR(CheckInputs(inputs, options));
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(inputs.config, options.request));
  BatchCosts costs(inputs, options, PairWires::Of(options.request, inputs.cluster));
  // Fewer pages by halves until something fits; the last try is for a single sequence.
  int64_t n_pages = demand.wanted_pages;
  Result<PlannedModel> plan = PlanSearch(costs, n_pages).Best();
  while (plan.status().code() == StatusCode::kResourceExhausted && n_pages > demand.least_pages) {
    n_pages = std::max(demand.least_pages, n_pages / 2);
    plan = PlanSearch(costs, n_pages).Best();
  }
  if (plan.status().code() == StatusCode::kResourceExhausted) {
    return DoesNotFit(costs, n_pages, plan.status());
  }
  if (!plan.ok()) return plan;
  if (options.policy == SplitPolicy::kOptimal) ShareHeads(costs, &*plan);
  TellCuts(costs, &*plan);
  TC_ASSIGN_OR_RETURN(plan->forecast, ForecastPlan(plan->plan, costs));
  // In a step of hours times are cut off, of a whole op at the plan and of its blocks in the bound,
  // which is none then.
  const bool is_cut_off = plan->forecast.step_s >= WorkerSpeed::kLongestOpS;
  if (options.with_bound && !is_cut_off && !SharesHeads(plan->plan)) {
    const double bound_s = ValueBound(costs, n_pages);
    plan->speed.lower_bound_s = WithoutRounding(bound_s, plan->speed.value_s);
    if (options.stop != nullptr && *options.stop) return Aborted("planning was stopped");
  }
  return plan;
}

}  // namespace thermocline::placement
