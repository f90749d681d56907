// The rules of a plan, one function each; the first that is broken is named with its numbers.
#include <set>

#include "base/str.h"
#include "placement/context.h"
#include "placement/model_bytes.h"
#include "placement/plan.h"

namespace thermocline::placement {
namespace {

std::string StageName(const Plan& plan, size_t i) {
  const StagePlan& stage = plan.stages[i];
  return Str("stage ", i, " (worker ", stage.lead, ", layers ", stage.layers.begin, "-",
             stage.layers.end, ")");
}

const WorkerProfile* FindWorker(const ClusterProfile& cluster, WorkerId id) {
  for (const WorkerProfile& worker : cluster.workers) {
    if (worker.id == id) return &worker;
  }
  return nullptr;
}

Status CheckLayers(const Plan& plan, const model::ModelConfig& config) {
  if (plan.n_layer != config.n_layer) {
    return InvalidArgument(Str("plan is for another model:", Kv("plan_n_layer", plan.n_layer),
                               Kv("model_n_layer", config.n_layer)));
  }
  if (plan.stages.empty()) return InvalidArgument("plan has no stages");
  int next = 0;
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const model::LayerRange& layers = plan.stages[i].layers;
    if (layers.begin >= layers.end) {
      return InvalidArgument(Str(StageName(plan, i), " has no layers"));
    }
    if (layers.begin != next) {
      return InvalidArgument(Str(StageName(plan, i),
                                 " does not begin where the layers before it end:",
                                 Kv("begin", layers.begin), Kv("wanted", next)));
    }
    next = layers.end;
  }
  if (next == config.n_layer) return OkStatus();
  return InvalidArgument(Str("stages do not end with the last layer:", Kv("end", next),
                             Kv("n_layer", config.n_layer)));
}

Status CheckEnds(const Plan& plan) {
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const model::LayerRange& layers = plan.stages[i].layers;
    if (layers.has_embed != (i == 0)) {
      return InvalidArgument(Str("the first stage and no other holds the embedding: ",
                                 StageName(plan, i), Kv("has_embed", layers.has_embed)));
    }
    if (layers.has_head != (i + 1 == plan.stages.size())) {
      return InvalidArgument(Str("the last stage and no other holds the head: ", StageName(plan, i),
                                 Kv("has_head", layers.has_head)));
    }
  }
  return OkStatus();
}

Status CheckLeads(const Plan& plan, const ClusterProfile& cluster) {
  std::set<WorkerId> leads;
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const WorkerId lead = plan.stages[i].lead;
    if (FindWorker(cluster, lead) == nullptr) {
      return InvalidArgument(Str(
          StageName(plan, i), " is led by a worker that is not in the cluster:", Kv("lead", lead),
          Kv("n_workers", cluster.workers.size())));
    }
    if (!leads.insert(lead).second) {
      return InvalidArgument(
          Str("worker leads two stages: the second is ", StageName(plan, i), Kv("lead", lead)));
    }
  }
  return OkStatus();
}

Status CheckKv(const Plan& plan) {
  const KvBudget& kv = plan.kv;
  if (kv.page_tokens < 1 || kv.page_tokens > kMaxPageTokens) {
    return InvalidArgument(
        Str("kv.page_tokens out of range: ", kv.page_tokens, " is not in 1..", kMaxPageTokens));
  }
  if (kv.dtype != DType::kF32 && kv.dtype != DType::kF16) {
    return InvalidArgument(Str("kv.dtype is neither F32 nor F16: ", DTypeName(kv.dtype)));
  }
  if (!IsFloat(plan.wire)) {
    return InvalidArgument(Str("wire is not a float type: ", DTypeName(plan.wire)));
  }
  if (plan.n_ctx < 1 || plan.n_ctx > kMaxContextTokens) {
    return InvalidArgument(
        Str("n_ctx out of range: ", plan.n_ctx, " is not in 1..", kMaxContextTokens));
  }
  const int64_t max_pages = kMaxKvTokens / kv.page_tokens;
  if (kv.n_pages < 0 || kv.n_pages > max_pages) {
    return InvalidArgument(
        Str("kv.n_pages out of range: ", kv.n_pages, " is not in 0..", max_pages));
  }
  if (kv.n_tokens() >= plan.n_ctx) return OkStatus();
  return InvalidArgument(Str("KV pages hold less than one sequence:", Kv("n_pages", kv.n_pages),
                             Kv("page_tokens", kv.page_tokens), Kv("n_ctx", plan.n_ctx)));
}

Status CheckBytes(const Plan& plan, const model::ModelConfig& config,
                  const model::WeightIndex& weights, model::FfnModes ffn) {
  const ModelBytes model = ModelBytes::Of(config, weights, ffn);
  const uint64_t page_bytes = KvPageBytes(config, plan.kv);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const uint64_t weights_bytes = weights.BytesOf(stage.layers);
    if (stage.weights_bytes != weights_bytes) {
      return InvalidArgument(Str(StageName(plan, i), " states other weights than the model has:",
                                 Kv("weights_bytes", stage.weights_bytes),
                                 Kv("model", weights_bytes)));
    }
    if (stage.relay_bytes != model.Relay(stage.layers)) {
      return InvalidArgument(Str(StageName(plan, i), " states other re-laid rows than it has:",
                                 Kv("relay_bytes", stage.relay_bytes),
                                 Kv("model", model.Relay(stage.layers))));
    }
    if (stage.predictor_bytes != model.Predictors(stage.layers)) {
      return InvalidArgument(Str(StageName(plan, i), " states other predictors than it holds:",
                                 Kv("predictor_bytes", stage.predictor_bytes),
                                 Kv("model", model.Predictors(stage.layers))));
    }
    const uint64_t n_layers = uint64_t(stage.layers.end - stage.layers.begin);
    const uint64_t kv_bytes = page_bytes * uint64_t(plan.kv.n_pages) * n_layers;
    if (stage.kv_bytes != kv_bytes) {
      return InvalidArgument(Str(StageName(plan, i), " states another KV size than its pages have:",
                                 Kv("kv_bytes", stage.kv_bytes), Kv("pages", kv_bytes)));
    }
  }
  return OkStatus();
}

Status CheckMemory(const Plan& plan, const model::ModelConfig& config,
                   const ClusterProfile& cluster, int max_step_tokens) {
  const uint64_t overhead = OverheadBytes(config, max_step_tokens);
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const StagePlan& stage = plan.stages[i];
    const uint64_t memory = FindWorker(cluster, stage.lead)->memory_bytes;
    uint64_t needed = overhead;
    const bool summed = AddChecked(needed, stage.weights_bytes, &needed) &&
                        AddChecked(needed, stage.relay_bytes, &needed) &&
                        AddChecked(needed, stage.predictor_bytes, &needed) &&
                        AddChecked(needed, stage.kv_bytes, &needed);
    if (summed && needed <= memory) continue;
    return InvalidArgument(Str(
        StageName(plan, i), " does not fit its worker: weights ", FormatBytes(stage.weights_bytes),
        " + re-laid rows ", FormatBytes(stage.relay_bytes), " + predictors ",
        FormatBytes(stage.predictor_bytes), " + KV ", FormatBytes(stage.kv_bytes), " + overhead ",
        FormatBytes(overhead), " is more than ", FormatBytes(memory)));
  }
  return OkStatus();
}

}  // namespace

Status ValidatePlan(const Plan& plan, const model::ModelConfig& config,
                    const model::WeightIndex& weights, const ClusterProfile& cluster,
                    const PlanRequest& request) {
  TC_RETURN_IF_ERROR(CheckLayers(plan, config));
  TC_RETURN_IF_ERROR(CheckEnds(plan));
  TC_RETURN_IF_ERROR(CheckLeads(plan, cluster));
  TC_RETURN_IF_ERROR(CheckKv(plan));
  TC_RETURN_IF_ERROR(CheckBytes(plan, config, weights, request.ffn));
  return CheckMemory(plan, config, cluster, request.max_step_tokens);
}

}  // namespace thermocline::placement
