#include "placement/planner.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/str.h"
#include "base/units.h"
#include "placement/context.h"
#include "placement/cost_model.h"
#include "placement/enough_memory.h"
#include "placement/forecast.h"
#include "placement/micro_batches.h"
#include "placement/overhead.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {
namespace {

// Whether helpers' parts must pay for their messages. Not where a baseline is asked for, which has
// rules of its own.
enum class LeastParts : uint8_t { kKept, kIgnored };

// The cost model as the stage search asks it, for one size of the KV cache.
class ClusterStages final : public StageModel {
 public:
  ClusterStages(const PlannerInputs& inputs, const PlannerOptions& options, const CostModel& costs,
                LeastParts least_parts, int64_t n_pages)
      : inputs_(inputs),
        costs_(costs),
        least_parts_(least_parts),
        bytes_(ModelBytes::Of(inputs.config, inputs.weights, options.request.ffn)),
        overhead_(inputs.config, inputs.weights, options.request.ffn,
                  options.request.max_step_tokens),
        wires_(PairWires::Of(options.request, inputs.cluster)),
        kv_layer_bytes_(KvPageBytes(inputs.config, options.request.kv) * uint64_t(n_pages)) {}

  int n_layer() const override { return inputs_.config.n_layer; }
  int n_devices() const override { return static_cast<int>(inputs_.cluster.workers.size()); }
  // The first worker of the same numbers, where its links are those of this one too.
  int DeviceType(int device) const override {
    for (int other = 0; other < device; ++other) {
      if (IsAlike(other, device)) return other;
    }
    return device;
  }
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override {
    const model::LayerRange layers = LayersOf(begin, end);
    SplitProblem problem = costs_.ProblemOf(GroupOf(group), layers);
    for (size_t d = 0; d < group.size(); ++d) {
      const uint64_t fixed = FixedBytes(layers, d == 0, group.size());
      const uint64_t memory = WorkerAt(group[d]).memory_bytes;
      // Alone it cannot hold its neurons either, so there will be no split; a problem all the same,
      // for bounds that look at times only. A helper without room takes no part.
      if (memory < fixed && d == 0 && group.size() > 1) return std::nullopt;
      problem.devices[d].memory_bytes = memory - std::min(memory, fixed);
    }
    if (least_parts_ == LeastParts::kIgnored) {
      for (SplitLayer& layer : problem.layers) layer.least_active.clear();
    }
    const WorkerId lead = WorkerAt(group.front()).id;
    if (layers.has_embed) problem.layers.front().fixed_s += costs_.EmbedSeconds(lead);
    if (layers.has_head) problem.layers.back().fixed_s += costs_.HeadSeconds(lead);
    return problem;
  }
  double HopSeconds(int from, int to) const override {
    return costs_.HopSeconds(WorkerAt(from).id, WorkerAt(to).id);
  }

  model::LayerRange LayersOf(int begin, int end) const {
    return {begin, end, begin == 0, end == n_layer()};
  }
  const WorkerProfile& WorkerAt(int device) const {
    return inputs_.cluster.workers[static_cast<size_t>(device)];
  }
  // What a member holds besides the neurons that the solver gives it, with all that the process
  // needs; of a lead that shares, also the block that it gets in any case.
  uint64_t FixedBytes(const model::LayerRange& layers, bool is_lead, size_t n_members) const {
    const auto n_layers = static_cast<size_t>(layers.end - layers.begin);
    if (is_lead) {
      const std::vector<NeuronRange> least(n_layers, costs_.NeuronsOf({0, n_members > 1 ? 1 : 0}));
      return overhead_.MostOfLead(layers, static_cast<int>(n_members) - 1) +
             bytes_.LeadPart(layers, least).sum() + kv_layer_bytes_ * n_layers;
    }
    const std::vector<NeuronRange> one(n_layers, NeuronRange{0, 1});
    return overhead_.MostOfHelper(static_cast<int>(n_layers)) +
           bytes_.HelperPart(layers, one).sum();
  }
  const OverheadModel& overhead() const { return overhead_; }
  uint64_t kv_bytes(const model::LayerRange& layers) const {
    return kv_layer_bytes_ * uint64_t(layers.end - layers.begin);
  }
  const ModelBytes& bytes() const { return bytes_; }

 private:
  Group GroupOf(const std::vector<int>& devices) const {
    Group group;
    for (const int device : devices) group.push_back(WorkerAt(device).id);
    return group;
  }

  bool IsAlike(int a, int b) const {
    if (WithoutNames(WorkerAt(a)) != WithoutNames(WorkerAt(b))) return false;
    const auto same_link = [&](WorkerId from_a, WorkerId to_a, WorkerId from_b, WorkerId to_b) {
      const LinkProfile *x = inputs_.cluster.FindLink(from_a, to_a),
                        *y = inputs_.cluster.FindLink(from_b, to_b);
      return x->transport == y->transport && x->latency_s == y->latency_s &&
             x->bytes_per_s == y->bytes_per_s && x->message_s == y->message_s &&
             wires_(from_a, to_a) == wires_(from_b, to_b);
    };
    const WorkerId id_a = WorkerAt(a).id, id_b = WorkerAt(b).id;
    return std::all_of(inputs_.cluster.workers.begin(), inputs_.cluster.workers.end(),
                       [&](const WorkerProfile& other) {
                         if (other.id == id_a || other.id == id_b) return true;
                         return same_link(id_a, other.id, id_b, other.id) &&
                                same_link(other.id, id_a, other.id, id_b);
                       });
  }

  const PlannerInputs& inputs_;
  const CostModel& costs_;
  const LeastParts least_parts_;
  const ModelBytes bytes_;
  const OverheadModel overhead_;
  const PairWires wires_;
  const uint64_t kv_layer_bytes_;
};

std::string Milliseconds(double seconds) {
  const double ms = std::round(seconds * 1e5) / 100;
  return Str(ms, " ms");
}

int Percent(double share) { return static_cast<int>(std::lround(100 * share)); }

// What the layer would take longer if the lead had the blocks of device d, which it spares
// `spared_s`.
double SavedSeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
                    size_t d, double spared_s) {
  LayerSplit without = ranges;
  without[d] = {};
  const double part_s = without[0].empty() ? problem.devices[0].part_s : 0;
  const double lead_s = BusySeconds(problem, layer, without, 0) - layer.fixed_s + part_s + spared_s;
  return std::max(FfnSeconds(problem, layer, without), lead_s) - FfnSeconds(problem, layer, ranges);
}

// What speaks for a helper: memory that the lead alone lacks, a shorter step, or a lead that is
// less busy, which then serves other steps meanwhile.
std::string GainText(uint64_t lacking_bytes, double saved_s, double spared_s, double links_s) {
  const std::string lack =
      lacking_bytes == 0 ? "" : Str("the lead alone lacks ", FormatBytes(lacking_bytes));
  if (saved_s > 0) {
    return Str(lack, lack.empty() ? "" : "; ", "saves ", Milliseconds(saved_s),
               " of a step, net of the ", Milliseconds(links_s), " that its links take");
  }
  if (!lack.empty()) return Str(lack, "; its links take ", Milliseconds(links_s), " of a step");
  return Str("a step is ", Milliseconds(-saved_s), " longer, but its lead free of ",
             Milliseconds(spared_s), " of it for others");
}

std::string HelperReason(const StageChoice& choice, const SplitProblem& problem, size_t d,
                         uint64_t lacking_bytes) {
  double saved = 0, spared = 0, blocks = 0, all_blocks = 0, links = 0, work = 0, all_work = 0;
  int n_layers = 0;
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const SplitLayer& layer = problem.layers[l];
    const BlockRange& range = choice.solution.split[l][d];
    all_blocks += layer.n_blocks();
    all_work += layer.seconds[0].back();
    if (range.empty()) continue;
    const auto& lead = layer.seconds[0];
    const double of_lead = lead[size_t(range.end)] - lead[size_t(range.begin)];
    work += of_lead;
    blocks += range.size();
    saved += SavedSeconds(problem, layer, choice.solution.split[l], d, of_lead);
    const SplitDevice& device = problem.devices[d];
    spared += of_lead - device.send_busy_s - device.merge_s;
    links += device.send_s + device.round_trip_s + device.merge_s;
    ++n_layers;
  }
  return Str(Percent(blocks / std::max(all_blocks, 1.0)), " % of the neurons and ",
             Percent(work / std::max(all_work, 1e-30)), " % of what a token reads of them, in ",
             n_layers, n_layers == 1 ? " layer" : " layers", ": ",
             GainText(lacking_bytes, saved, spared, links));
}

std::string StageReason(const StageChoice& choice, const model::LayerRange& layers, int n_layer) {
  std::string reason = Str(layers.end - layers.begin, " of ", n_layer, " layers in ",
                           Milliseconds(choice.solution.cost.seconds));
  if (choice.group.size() > 1) {
    reason += Str(", neurons shared with ", choice.group.size() - 1,
                  choice.group.size() == 2 ? " helper" : " helpers");
  }
  return reason;
}

// A lead has at least one block of every layer: it takes one from a helper whose part stays large
// enough without it, or else from the last.
void GiveLeadABlock(const SplitLayer& layer, LayerSplit* ranges) {
  if (!(*ranges)[0].empty()) return;
  int giver = 0;
  for (int d = 1; d < static_cast<int>(ranges->size()); ++d) {
    const BlockRange& range = (*ranges)[static_cast<size_t>(d)];
    if (range.empty()) continue;
    giver = d;
    if (range.size() > 1 && layer.HasLeastPart(d, {range.begin, range.end - 1})) break;
  }
  BlockRange& range = (*ranges)[static_cast<size_t>(giver)];
  (*ranges)[0] = {range.end - 1, range.end};
  --range.end;
}

StagePlan ToStage(const StageChoice& choice, const ClusterStages& model, const CostModel& costs) {
  const model::LayerRange layers = model.LayersOf(choice.begin, choice.end);
  StagePlan stage{.lead = model.WorkerAt(choice.group.front()).id, .layers = layers};
  stage.reason = StageReason(choice, layers, model.n_layer());
  PartBytes bytes = {model.bytes().Weights(layers), model.bytes().Relay(layers),
                     model.bytes().Predictors(layers)};
  if (choice.group.size() > 1) {
    Split split = choice.solution.split;
    const auto problem = model.Problem(choice.begin, choice.end, choice.group);
    const uint64_t alone =
        bytes.sum() + model.kv_bytes(layers) + model.overhead().MostOfLead(layers, 0);
    const uint64_t memory = model.WorkerAt(choice.group.front()).memory_bytes;
    for (size_t l = 0; l < split.size(); ++l) GiveLeadABlock(problem->layers[l], &split[l]);
    for (const LayerSplit& ranges : split) stage.neurons.push_back(costs.NeuronsOf(ranges[0]));
    bytes = model.bytes().LeadPart(layers, stage.neurons);
    for (size_t d = 1; d < choice.group.size(); ++d) {
      HelperPlan& helper = stage.helpers.emplace_back();
      helper.worker = model.WorkerAt(choice.group[d]).id;
      for (const LayerSplit& ranges : split) helper.neurons.push_back(costs.NeuronsOf(ranges[d]));
      helper.bytes = model.bytes().HelperPart(layers, helper.neurons);
      helper.reason = HelperReason(choice, *problem, d, alone - std::min(alone, memory));
    }
  }
  stage.weights_bytes = bytes.weights;
  stage.relay_bytes = bytes.relay;
  stage.predictor_bytes = bytes.predictors;
  return stage;
}

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
