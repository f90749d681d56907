// CompletePlan: what a hand-written plan leaves out follows from the model and the request.
#include <algorithm>
#include <limits>

#include "base/str.h"
#include "placement/context.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/plan.h"

namespace thermocline::placement {
namespace {

// The stages may name layers that the model lacks: then there is nothing to weigh and ValidatePlan
// tells why.
bool WithinModel(const Plan& plan, int n_layer) {
  return std::all_of(plan.stages.begin(), plan.stages.end(), [&](const StagePlan& stage) {
    return 0 <= stage.layers.begin && stage.layers.begin < stage.layers.end &&
           stage.layers.end <= n_layer;
  });
}

// What the helpers leave of a layer: the first gap between their ranges. Where there are more,
// ValidatePlan tells so.
NeuronRange NeuronsLeft(const StagePlan& stage, size_t layer, int64_t n_ff) {
  std::vector<NeuronRange> taken = {{n_ff, n_ff}};
  for (const HelperPlan& helper : stage.helpers) {
    if (!helper.neurons[layer].empty()) taken.push_back(helper.neurons[layer]);
  }
  std::sort(taken.begin(), taken.end(),
            [](const NeuronRange& a, const NeuronRange& b) { return a.begin < b.begin; });
  int64_t next = 0;
  for (const NeuronRange& range : taken) {
    if (range.begin > next) return {next, range.begin};
    next = std::max(next, range.end);
  }
  return {};
}

void FillLead(const PartBytes& bytes, StagePlan* stage) {
  if (stage->weights_bytes == 0) stage->weights_bytes = bytes.weights;
  if (stage->relay_bytes == 0) stage->relay_bytes = bytes.relay;
  if (stage->predictor_bytes == 0) stage->predictor_bytes = bytes.predictors;
  if (stage->saved_bytes == 0) stage->saved_bytes = bytes.saved;
}

// The same of heads, which only the lead may have left out.
HeadRange HeadsLeft(const StagePlan& stage, int n_head_kv) {
  std::vector<HeadRange> taken;
  for (const HelperPlan& helper : stage.helpers) {
    if (!helper.heads.empty()) taken.push_back(helper.heads);
  }
  if (taken.empty()) return {};
  taken.push_back({n_head_kv, n_head_kv});
  std::sort(taken.begin(), taken.end(),
            [](const HeadRange& a, const HeadRange& b) { return a.begin < b.begin; });
  int next = 0;
  for (const HeadRange& range : taken) {
    if (range.begin > next) return {next, range.begin};
    next = std::max(next, range.end);
  }
  return {};
}

void FillSplit(const ClusterProfile& cluster, StagePlan* stage, const ModelBytes& model,
               int n_head_kv) {
  const auto n_layers = static_cast<size_t>(stage->layers.end - stage->layers.begin);
  const auto all_named = [&](const std::vector<NeuronRange>& neurons) {
    return neurons.size() == n_layers &&
           std::all_of(neurons.begin(), neurons.end(),
                       [&](const NeuronRange& range) { return range.end <= model.n_ff(); });
  };
  const auto has_heads = [&](const HeadRange& heads) { return heads.end <= n_head_kv; };
  if (stage->heads.empty()) stage->heads = HeadsLeft(*stage, n_head_kv);
  if (!has_heads(stage->heads)) return;  // ValidatePlan tells why
  for (HelperPlan& helper : stage->helpers) {
    if (!all_named(helper.neurons) || !has_heads(helper.heads)) return;
    const PartBytes bytes = model.HelperPart(stage->layers, helper.neurons,
                                             cluster.RowsOf(helper.worker), helper.heads);
    if (helper.bytes.weights == 0) helper.bytes.weights = bytes.weights;
    if (helper.bytes.relay == 0) helper.bytes.relay = bytes.relay;
    if (helper.bytes.predictors == 0) helper.bytes.predictors = bytes.predictors;
    if (helper.bytes.saved == 0) helper.bytes.saved = bytes.saved;
    if (helper.reason.empty()) helper.reason = "written by hand";
  }
  for (size_t layer = stage->neurons.size(); layer < n_layers; ++layer) {
    stage->neurons.push_back(NeuronsLeft(*stage, layer, model.n_ff()));
  }
  if (!all_named(stage->neurons)) return;
  const NeuronRows rows = cluster.RowsOf(stage->lead);
  FillLead(model.LeadPart(stage->layers, stage->neurons, rows, stage->heads), stage);
}

void FillBytes(const ClusterProfile& cluster, Plan* plan, const ModelBytes& model, int n_head_kv) {
  for (StagePlan& stage : plan->stages) {
    if (stage.is_split()) {
      FillSplit(cluster, &stage, model, n_head_kv);
    } else {
      FillLead(model.WholePart(stage.layers, cluster.RowsOf(stage.lead)), &stage);
    }
    if (stage.reason.empty()) stage.reason = "written by hand";
  }
}

// Whether what the members of a stage hold can be counted.
bool IsCountable(const StagePlan& stage, const model::ModelConfig& config) {
  const auto n_layers = static_cast<size_t>(stage.layers.end - stage.layers.begin);
  return stage.neurons.size() == n_layers && stage.heads.end <= config.n_head_kv &&
         std::all_of(stage.helpers.begin(), stage.helpers.end(), [&](const HelperPlan& helper) {
           return helper.neurons.size() == n_layers && helper.heads.end <= config.n_head_kv;
         });
}

// The pages that the member with the least room left can hold.
int64_t PagesThatFit(const Plan& plan, const model::ModelConfig& config,
                     const ClusterProfile& cluster, const OverheadModel& overhead) {
  KvBudget one = plan.kv;
  one.n_pages = 1;
  uint64_t least = std::numeric_limits<int64_t>::max();
  const auto limit = [&](WorkerId id, uint64_t taken, const model::LayerRange& layers,
                         const HeadRange& heads) {
    const WorkerProfile* const worker = cluster.FindWorker(id);
    if (worker == nullptr) return;
    const uint64_t room = worker->memory_bytes - std::min(worker->memory_bytes, taken);
    least = std::min(least, room / std::max<uint64_t>(KvBytes(config, one, layers, heads), 1));
  };
  const auto holder = [&](WorkerId id) {
    const WorkerProfile* const worker = cluster.FindWorker(id);
    return worker == nullptr ? Holder::kProcess : HolderOf(*worker);
  };
  for (const StagePlan& stage : plan.stages) {
    const auto n_helpers = static_cast<int>(stage.helpers.size());
    const bool shares_heads = stage.shares_heads() && IsCountable(stage, config);
    if (shares_heads) least = std::min(least, static_cast<uint64_t>(kMaxToldPages));
    limit(stage.lead,
          stage.bytes().sum() +
              (shares_heads ? overhead.OfLead(stage, holder(stage.lead))
                            : overhead.MostOfLead(stage.layers, n_helpers, holder(stage.lead))),
          stage.layers, HeadsOf(stage, config));
    for (const HelperPlan& helper : stage.helpers) {
      if (!shares_heads || helper.heads.empty()) continue;
      limit(helper.worker,
            helper.bytes.sum() + overhead.OfHelper(stage, helper, holder(helper.worker)),
            stage.layers, helper.heads);
    }
  }
  return static_cast<int64_t>(least);
}

// Too few pages for one sequence are not lowered further: ValidatePlan then says which stage lacks
// the memory, and how much.
Status FillKv(Plan* plan, const model::ModelConfig& config, const model::WeightIndex& weights,
              const ClusterProfile& cluster, PlanRequest request) {
  if (plan->n_ctx > 0) request.n_ctx = plan->n_ctx;
  request.kv = plan->kv;
  TC_ASSIGN_OR_RETURN(const ContextDemand demand, DemandOf(config, request));
  if (plan->kv.n_pages == 0) {
    const OverheadModel overhead(config, weights, request.ffn, request.max_step_tokens,
                                 demand.wanted_pages);
    const int64_t fit = PagesThatFit(*plan, config, cluster, overhead);
    plan->kv.n_pages = std::max(std::min(fit, demand.wanted_pages), demand.least_pages);
  }
  if (plan->n_ctx == 0) plan->n_ctx = demand.ContextOf(plan->kv.n_pages, plan->kv.page_tokens);
  for (StagePlan& stage : plan->stages) {
    const auto bytes = [&](const HeadRange& heads) {
      return KvBytes(config, plan->kv, stage.layers, heads);
    };
    if (stage.kv_bytes == 0) stage.kv_bytes = bytes(HeadsOf(stage, config));
    for (HelperPlan& helper : stage.helpers) {
      if (helper.kv_bytes == 0) helper.kv_bytes = bytes(helper.heads);
    }
  }
  return OkStatus();
}

Status FillIdentity(Plan* plan, const model::ModelConfig& config, const PlanRequest& request) {
  if (plan->n_layer == 0) plan->n_layer = config.n_layer;
  if (plan->epoch.value == 0) plan->epoch = request.epoch;
  if (plan->model_fingerprint.empty()) plan->model_fingerprint = request.model_fingerprint;
  if (plan->model_fingerprint == request.model_fingerprint) return OkStatus();
  return InvalidArgument(
      Str("plan is for another model:", Kv("plan_fingerprint", Printable(plan->model_fingerprint)),
          Kv("model_fingerprint", request.model_fingerprint)));
}

}  // namespace

Result<Plan> CompletePlan(Plan plan, const model::ModelConfig& config,
                          const model::WeightIndex& weights, const ClusterProfile& cluster,
                          const PlanRequest& request) {
  TC_RETURN_IF_ERROR(FillIdentity(&plan, config, request));
  if (plan.kv.page_tokens == 0) plan.kv.page_tokens = request.kv.page_tokens;
  if (WithinModel(plan, config.n_layer)) {
    FillBytes(cluster, &plan, ModelBytes::Of(config, weights, request.ffn), config.n_head_kv);
    TC_RETURN_IF_ERROR(FillKv(&plan, config, weights, cluster, request));
  }
  TC_RETURN_IF_ERROR(ValidatePlan(plan, config, weights, cluster, request));
  return plan;
}

}  // namespace thermocline::placement
