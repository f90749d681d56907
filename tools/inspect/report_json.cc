// The report for programs.
#include <nlohmann/json.hpp>

#include "tools/inspect/report.h"

namespace thermocline::tools {
namespace {

using Json = nlohmann::ordered_json;

Json ConfigJson(const model::ModelConfig& config) {
  return {{"n_layer", config.n_layer},
          {"n_embd", config.n_embd},
          {"n_head", config.n_head},
          {"n_head_kv", config.n_head_kv},
          {"head_dim", config.head_dim},
          {"n_ff", config.n_ff},
          {"n_vocab", config.n_vocab},
          {"n_ctx_train", config.n_ctx_train},
          {"activation", model::ActivationName(config.activation)},
          {"ffn_gated", config.ffn_gated},
          {"tied_embeddings", config.tied_embeddings}};
}

Json GroupJson(const TensorGroup& group) {
  return {{"role", group.role},
          {"count", group.n_tensors},
          {"types", group.types.Text()},
          {"params", group.n_params},
          {"bytes", group.bytes}};
}

Json LayersJson(const LayerGroup& layers) {
  return {{"begin", layers.begin},
          {"end", layers.end},
          {"types", layers.types.Text()},
          {"attention_bytes", layers.attention_bytes},
          {"ffn_bytes", layers.ffn_bytes},
          {"predictor_bytes", layers.predictor_bytes},
          {"other_bytes", layers.other_bytes}};
}

Json TensorJson(const model::TensorInfo& tensor) {
  return {{"name", tensor.name},
          {"type", DTypeName(tensor.dtype)},
          {"shape", tensor.shape},
          {"bytes", tensor.size_bytes},
          {"offset", tensor.offset_bytes}};
}

Json RatesJson(const MachineRates& rates) {
  Json flops;
  for (const auto& [dtype, rate] : rates.flops) {
    flops[std::string(DTypeName(dtype))] = {{"decode", rate.decode_per_s},
                                            {"prefill", rate.prefill_per_s}};
  }
  return {{"device", rates.device},
          {"threads", rates.n_threads},
          {"bytes_per_s", rates.bytes_per_s},
          {"gather_bytes_per_s", rates.gather_bytes_per_s},
          {"flops_per_s", std::move(flops)}};
}

Json StepJson(const StepReport& step, const std::optional<MachineRates>& rates) {
  Json out = {{"title", step.title},
              {"tokens", step.cost.n_tokens},
              {"bytes", step.cost.bytes()},
              {"flops", step.cost.flops()}};
  if (rates) {
    const double seconds = PredictSeconds(step.cost, *rates);
    out["seconds"] = seconds;
    out["tokens_per_s"] = static_cast<double>(step.cost.n_tokens) / seconds;
  }
  out["ops"] = Json::array();
  for (const OpCost& op : step.cost.ops) {
    Json line = {{"op", op.name},
                 {"type", DTypeName(op.dtype)},
                 {"count", op.count},
                 {"bytes", op.bytes},
                 {"flops", op.flops}};
    if (rates) {
      const Prediction predicted = PredictOp(op, step.cost.n_tokens, *rates);
      line["bound"] = BoundName(predicted.bound);
      line["seconds"] = predicted.seconds;
    }
    out["ops"].push_back(std::move(line));
  }
  return out;
}

Json RunnableJson(const RunnableModel& model, const std::optional<MachineRates>& rates) {
  Json out = {{"config", ConfigJson(model.config)}, {"predictors", model.has_predictors}};
  if (!model.densities.layers.empty()) {
    out["densities"] = {{"source", model.densities.source},
                        {"layers", model.densities.layers},
                        {"unions", model.densities.has_unions()}};
  }
  if (!model.profile_note.empty()) out["profile_not_used"] = model.profile_note;
  out["steps"] = Json::object();
  for (const StepReport& step : model.steps) out["steps"][step.key] = StepJson(step, rates);
  return out;
}

}  // namespace

std::string InspectJson(const InspectReport& report) {
  Json out = {{"path", report.path},
              {"file_bytes", report.file_bytes},
              {"format", report.format},
              {"architecture", report.architecture},
              {"name", report.name},
              {"tokenizer", report.tokenizer},
              {"chat_template", report.has_chat_template},
              {"fingerprint", report.fingerprint},
              {"part", report.i_part},
              {"parts", report.n_parts},
              {"context", report.n_context},
              {"groups", Json::array()},
              {"layers", Json::array()}};
  for (const TensorGroup& group : report.groups) out["groups"].push_back(GroupJson(group));
  for (const LayerGroup& layers : report.layers) out["layers"].push_back(LayersJson(layers));
  for (const model::TensorInfo& tensor : report.tensors) {
    out["tensors"].push_back(TensorJson(tensor));
  }
  if (report.rates) out["machine"] = RatesJson(*report.rates);
  if (report.runnable) {
    out["model"] = RunnableJson(*report.runnable, report.rates);
  } else {
    out["not_runnable"] = report.why_not_runnable;
  }
  return out.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace thermocline::tools
