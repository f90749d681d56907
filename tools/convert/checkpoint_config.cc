#include "tools/convert/checkpoint_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/str.h"
#include "model/config.h"
#include "tools/convert/json_file.h"

namespace thermocline::tools {
namespace {

using nlohmann::json;

constexpr CheckpointLayout kLayouts[] = {
    {"LlamaForCausalLM", "llama", "rms_norm_eps", "attention.layer_norm_rms_epsilon", true, 0, 1,
     "silu"},
    {"MistralForCausalLM", "llama", "rms_norm_eps", "attention.layer_norm_rms_epsilon", true, 0, 1,
     "silu"},
    {"Qwen2ForCausalLM", "qwen2", "rms_norm_eps", "attention.layer_norm_rms_epsilon", false, 0, 1,
     "silu"},
    {"ArceeForCausalLM", "arcee", "rms_norm_eps", "attention.layer_norm_rms_epsilon", true, 0, 1,
     "relu2"},
    {"NemotronForCausalLM", "nemotron", "norm_eps", "attention.layer_norm_epsilon", false, 1, 0.5,
     "relu2"},
    {"OPTForCausalLM", "opt", "", "attention.layer_norm_epsilon", false, 0, 0, "relu", "ffn_dim",
     "activation_function", false, true},
};
// Of LayerNorm in OPT's framework; OPT's config.json cannot change it.
constexpr double kDefaultEps = 1e-5;

// Switches of OPT that change the graph, with the one setting that is supported.
struct Switch {
  std::string_view field;
  bool wanted;  // and what an absent field means
};
constexpr Switch kOptSwitches[] = {{"do_layer_norm_before", true},
                                   {"_remove_final_layer_norm", false},
                                   {"enable_bias", true},
                                   {"layer_norm_elementwise_affine", true}};

Result<const CheckpointLayout*> FindLayout(const json& config) {
  std::string known;
  const json* names = FindField(config, "architectures");
  const bool has_name =
      names != nullptr && names->is_array() && !names->empty() && (*names)[0].is_string();
  const std::string name = has_name ? (*names)[0].get<std::string>() : "";
  for (const CheckpointLayout& layout : kLayouts) {
    if (layout.class_name == name) return &layout;
    known += Str(" ", layout.class_name);
  }
  return InvalidArgument(Str("unsupported architecture: config.json has \"", Printable(name),
                             "\"; supported:", known));
}

struct IntBounds {
  int64_t min, max;
};
Result<int64_t> Count(const json& config, std::string_view key, IntBounds bounds,
                      std::optional<int64_t> fallback = {}) {
  TC_ASSIGN_OR_RETURN(std::optional<int64_t> value, IntField(config, key));
  if (!value) value = fallback;
  if (!value) return InvalidArgument(Str("config.json lacks a field: ", key));
  if (*value < bounds.min || *value > bounds.max) {
    return InvalidArgument(Str("config.json has a field out of bounds: ", key, Kv("value", *value),
                               Kv("min", bounds.min), Kv("max", bounds.max)));
  }
  return *value;
}

Status ReadSizes(const json& config, CheckpointConfig* out) {
  TC_ASSIGN_OR_RETURN(out->n_embd, Count(config, "hidden_size", {1, model::kMaxEmbd}));
  TC_ASSIGN_OR_RETURN(out->n_ff, Count(config, out->layout->ff_field, {1, model::kMaxFf}));
  TC_ASSIGN_OR_RETURN(out->n_layer, Count(config, "num_hidden_layers", {1, model::kMaxLayers}));
  TC_ASSIGN_OR_RETURN(out->n_head, Count(config, "num_attention_heads", {1, model::kMaxHeads}));
  TC_ASSIGN_OR_RETURN(out->n_head_kv,
                      Count(config, "num_key_value_heads", {1, model::kMaxHeads}, out->n_head));
  TC_ASSIGN_OR_RETURN(
      out->head_dim, Count(config, "head_dim", {2, model::kMaxHeadDim}, out->n_embd / out->n_head));
  TC_ASSIGN_OR_RETURN(out->n_ctx,
                      Count(config, "max_position_embeddings", {1, model::kMaxContext}));
  TC_ASSIGN_OR_RETURN(out->n_vocab, Count(config, "vocab_size", {1, model::kMaxVocab}));
  if (out->head_dim % 2 == 0 || !out->layout->rotates) return OkStatus();
  return InvalidArgument(Str("heads cannot be rotated by pairs:", Kv("head_dim", out->head_dim)));
}

// A window narrower than the context is kept exact by shortening the context to it.
Status ReadWindow(const json& config, CheckpointConfig* out) {
  TC_ASSIGN_OR_RETURN(const auto used, BoolField(config, "use_sliding_window"));
  if (!used.value_or(true)) return OkStatus();
  TC_ASSIGN_OR_RETURN(const auto window, IntField(config, "sliding_window"));
  if (!window || *window <= 0 || *window >= out->n_ctx) return OkStatus();
  out->notes.push_back(
      Str("context shortened to the sliding window:", Kv("from", out->n_ctx), Kv("to", *window)));
  out->n_ctx = *window;
  return OkStatus();
}

struct LlamaScaling {
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4, original_context = 8192;
};

// Wavelengths above original / low turn `factor` times slower, those below original / high are
// left alone, and between the two the speeds blend linearly in 1 / wavelength.
// Source: Llama 3.1's reference code, apply_scaling.
std::vector<float> LlamaDivisors(const LlamaScaling& s, int64_t n_rot, double base) {
  std::vector<float> divisors;
  for (int64_t i = 0; i < n_rot / 2; ++i) {
    const double frequency =
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(n_rot));
    const double turns = s.original_context * frequency / (2 * std::numbers::pi);
    const double kept = std::clamp(
        (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
    divisors.push_back(static_cast<float>(1 / ((1 - kept) / s.factor + kept)));
  }
  return divisors;
}

Status ReadLlamaScaling(const json& scaling, CheckpointConfig* out) {
  LlamaScaling s;
  const std::pair<std::string_view, double*> fields[] = {
      {"factor", &s.factor},
      {"low_freq_factor", &s.low_freq_factor},
      {"high_freq_factor", &s.high_freq_factor},
      {"original_max_position_embeddings", &s.original_context}};
  for (const auto& [key, value] : fields) {
    TC_ASSIGN_OR_RETURN(const auto number, NumberField(scaling, key));
    if (number) *value = *number;
    if (!(*value > 0)) return InvalidArgument(Str("rope scaling out of bounds: ", key));
  }
  if (s.high_freq_factor <= s.low_freq_factor) {
    return InvalidArgument("rope scaling out of bounds: high_freq_factor <= low_freq_factor");
  }
  out->rope_divisors = LlamaDivisors(s, out->n_rot, out->rope_base);
  return OkStatus();
}

Status ReadScaling(const json& scaling, CheckpointConfig* out) {
  TC_ASSIGN_OR_RETURN(auto type, StringField(scaling, "rope_type"));
  if (!type) {
    TC_ASSIGN_OR_RETURN(type, StringField(scaling, "type"));
  }
  const std::string name = type.value_or("default");
  if (name == "default") return OkStatus();
  if (name == "llama3") return ReadLlamaScaling(scaling, out);
  if (name == "linear") {
    TC_ASSIGN_OR_RETURN(out->linear_factor, NumberField(scaling, "factor"));
    if (out->linear_factor && *out->linear_factor > 0) return OkStatus();
    return InvalidArgument("rope scaling lacks its factor");
  }
  return InvalidArgument(
      Str("unsupported rope scaling: \"", Printable(name), "\"; linear and llama3 are supported"));
}

Status CheckOpt(const json& config, const CheckpointConfig& out) {
  for (const Switch& each : kOptSwitches) {
    TC_ASSIGN_OR_RETURN(const auto value, BoolField(config, each.field));
    if (value.value_or(each.wanted) == each.wanted) continue;
    return InvalidArgument(Str("unsupported kind of OPT: config.json has ", each.field, " ",
                               each.wanted ? "false" : "true"));
  }
  TC_ASSIGN_OR_RETURN(const auto width, IntField(config, "word_embed_proj_dim"));
  if (width.value_or(out.n_embd) == out.n_embd) return OkStatus();
  return InvalidArgument(Str("unsupported kind of OPT: embeddings are projected:",
                             Kv("word_embed_proj_dim", *width), Kv("hidden_size", out.n_embd)));
}

Status ReadRope(const json& config, CheckpointConfig* out) {
  // Newer files keep base and scaling in one object.
  const json* both = FindField(config, "rope_parameters");
  const json* scaling = both != nullptr ? both : FindField(config, "rope_scaling");
  TC_ASSIGN_OR_RETURN(const auto base, NumberField(both != nullptr ? *both : config, "rope_theta"));
  out->rope_base = base.value_or(10000);
  if (!(out->rope_base > 0)) return InvalidArgument("rope_theta must be positive");
  double share = out->layout->rotary_share;
  // Names that the field has had.
  for (const std::string_view key : {"rope_percent", "rope_pct", "partial_rotary_factor"}) {
    TC_ASSIGN_OR_RETURN(const auto value, NumberField(config, key));
    share = value.value_or(share);
  }
  const double rotated = static_cast<double>(out->head_dim) * share;
  if (!(rotated >= 2 && rotated <= static_cast<double>(out->head_dim))) {
    return InvalidArgument(Str("rotated share of a head out of bounds:", Kv("share", share)));
  }
  out->n_rot = static_cast<int64_t>(rotated);
  if (out->n_rot % 2 != 0) {
    return InvalidArgument(Str("rotated elements of a head must be even:", Kv("n_rot", out->n_rot),
                               Kv("head_dim", out->head_dim)));
  }
  if (out->layout->interleave_qk && out->n_rot != out->head_dim) {
    return InvalidArgument(Str("partial rotation is not part of ", out->layout->arch,
                               " models:", Kv("n_rot", out->n_rot)));
  }
  return scaling == nullptr ? OkStatus() : ReadScaling(*scaling, out);
}

Status ReadActivation(const json& config, CheckpointConfig* out) {
  const CheckpointLayout& layout = *out->layout;
  TC_ASSIGN_OR_RETURN(const auto name, StringField(config, layout.activation_field));
  const std::string activation = name.value_or(std::string(layout.activation));
  if (activation == layout.activation || activation == "relu") {
    out->activation = activation;
    return OkStatus();
  }
  return InvalidArgument(Str("unsupported activation: ", layout.activation_field, " \"",
                             Printable(activation), "\"; supported by ", layout.arch, ": ",
                             layout.activation, layout.activation == "relu" ? "" : " relu"));
}

Status ReadEps(const json& config, CheckpointConfig* out) {
  out->norm_eps = kDefaultEps;
  const std::string_view field = out->layout->eps_field;
  if (field.empty()) return OkStatus();
  TC_ASSIGN_OR_RETURN(const auto eps, NumberField(config, field));
  if (!eps || !(*eps >= 0)) return InvalidArgument(Str("config.json lacks a field: ", field));
  out->norm_eps = *eps;
  return OkStatus();
}

}  // namespace

Result<CheckpointConfig> ReadCheckpointConfig(const json& config) {
  CheckpointConfig out;
  TC_ASSIGN_OR_RETURN(out.layout, FindLayout(config));
  TC_RETURN_IF_ERROR(ReadSizes(config, &out));
  TC_RETURN_IF_ERROR(out.layout->rotates ? ReadRope(config, &out) : CheckOpt(config, out));
  TC_RETURN_IF_ERROR(ReadWindow(config, &out));
  TC_RETURN_IF_ERROR(ReadActivation(config, &out));
  TC_RETURN_IF_ERROR(ReadEps(config, &out));
  TC_ASSIGN_OR_RETURN(const auto tied, BoolField(config, "tie_word_embeddings"));
  out.tied = tied.value_or(out.layout->tied);
  return out;
}

void SetConfigMetadata(const CheckpointConfig& config, const std::string& name,
                       model::GgufMetadata* metadata) {
  const std::string prefix = Str(config.layout->arch, ".");
  const auto set = [&](std::string_view key, int64_t value) {
    metadata->SetU32(Str(prefix, key), static_cast<uint32_t>(value));
  };
  metadata->SetString("general.architecture", config.layout->arch);
  metadata->SetString("general.name", name);
  set("context_length", config.n_ctx);
  set("embedding_length", config.n_embd);
  set("block_count", config.n_layer);
  set("feed_forward_length", config.n_ff);
  set("attention.head_count", config.n_head);
  set("attention.head_count_kv", config.n_head_kv);
  if (config.head_dim * config.n_head != config.n_embd) {
    set("attention.key_length", config.head_dim);
    set("attention.value_length", config.head_dim);
  }
  metadata->SetF32(Str(prefix, config.layout->eps_key), static_cast<float>(config.norm_eps));
  if (config.layout->rotates) {
    set("rope.dimension_count", config.n_rot);
    metadata->SetF32(prefix + "rope.freq_base", static_cast<float>(config.rope_base));
  }
  if (config.linear_factor) {
    metadata->SetString(prefix + "rope.scaling.type", "linear");
    metadata->SetF32(prefix + "rope.scaling.factor", static_cast<float>(*config.linear_factor));
  }
  set("vocab_size", config.n_vocab);
  if (config.activation != config.layout->activation) {
    metadata->SetString(prefix + "hidden_activation", config.activation);
  }
}

}  // namespace thermocline::tools
