#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <variant>

#include "base/str.h"
#include "model/metadata_reader.h"

namespace thermocline::model {
namespace {

// What an architecture's name fixes. Source: the model graphs of GGUF's reference implementation.
struct ArchTraits {
  std::string_view name;
  Architecture arch;
  NormKind norm;
  std::string_view eps_key;
  RopePairing pairing;
  bool ffn_gated;
  Activation activation;  // unless the file names another
  bool ffn_up_activated = false;
  bool in_powerinfer = false;  // PowerInfer's dialect has it
};

constexpr std::string_view kRmsEps = "attention.layer_norm_rms_epsilon";
constexpr std::string_view kLayerEps = "attention.layer_norm_epsilon";

constexpr ArchTraits kArchitectures[] = {
    {"llama", Architecture::kLlama, NormKind::kRms, kRmsEps, RopePairing::kAdjacent, true,
     Activation::kSilu, false, true},
    {"qwen2", Architecture::kQwen2, NormKind::kRms, kRmsEps, RopePairing::kHalves, true,
     Activation::kSilu},
    {"arcee", Architecture::kArcee, NormKind::kRms, kRmsEps, RopePairing::kAdjacent, false,
     Activation::kReluSquared},
    {"nemotron", Architecture::kNemotron, NormKind::kLayer, kLayerEps, RopePairing::kHalves, false,
     Activation::kReluSquared},
    // PowerInfer's: llama with a ReLU on gate and up.
    {"bamboo", Architecture::kBamboo, NormKind::kRms, kRmsEps, RopePairing::kAdjacent, true,
     Activation::kRelu, true, true},
    // PowerInfer's, as upstream has no OPT: positions are learned, not rotated.
    {"opt", Architecture::kOpt, NormKind::kLayer, kLayerEps, RopePairing::kAdjacent, false,
     Activation::kRelu, false, true},
};

// OPT's table of positions begins with two rows that no position reads (its authors' padding).
constexpr int kOptPositionOffset = 2;
// What LayerNorm of OPT's framework has unless told; PowerInfer's files do not say it.
constexpr float kOptEps = 1e-5f;
constexpr std::string_view kPositionTable = "position_embd.weight";

// The names that checkpoints give to activations.
struct ActivationSpelling {
  std::string_view name;
  Activation activation;
};
constexpr ActivationSpelling kActivationSpellings[] = {
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"relu", Activation::kRelu},
    {"relu2", Activation::kReluSquared},
    {"relu_squared", Activation::kReluSquared},
};
// Keys under which files state the activation; upstream's first.
constexpr std::string_view kActivationKeys[] = {"hidden_activation", "activation_function"};

std::string SupportedNames(GgufDialect dialect) {
  std::string names;
  for (const ArchTraits& traits : kArchitectures) {
    if (dialect == GgufDialect::kGguf || traits.in_powerinfer) names += Str(" ", traits.name);
  }
  return names;
}

Result<ArchTraits> FindArchitecture(const GgufFile& file) {
  Result<std::string> name = file.GetString("general.architecture");
  if (!name.ok()) return InvalidArgument(name.status().message());
  for (const ArchTraits& traits : kArchitectures) {
    if (traits.name != *name) continue;
    if (file.dialect() == GgufDialect::kPowerInfer && !traits.in_powerinfer) {
      return InvalidArgument(Str("unsupported architecture in a PowerInfer file: \"", *name,
                                 "\"; supported there:", SupportedNames(file.dialect())));
    }
    return traits;
  }
  return InvalidArgument(Str("unsupported architecture: \"", Printable(*name),
                             "\"; supported:", SupportedNames(GgufDialect::kGguf)));
}

Result<Activation> ReadActivation(const MetadataReader& meta, const ArchTraits& traits,
                                  GgufDialect dialect) {
  for (const std::string_view key : kActivationKeys) {
    if (!meta.Has(key)) continue;
    TC_ASSIGN_OR_RETURN(const std::string name, meta.StringOr(key, ""));
    for (const ActivationSpelling& spelling : kActivationSpellings) {
      // Gated FFNs are SwiGLU or ReGLU, ungated ones are of the ReLU family; dReLU is what it says.
      const Activation foreign = traits.ffn_gated ? Activation::kReluSquared : Activation::kSilu;
      const bool fits = traits.ffn_up_activated ? spelling.activation == traits.activation
                                                : spelling.activation != foreign;
      if (spelling.name == name && fits) return spelling.activation;
    }
    return InvalidArgument(Str("unsupported activation: ", meta.Key(key), " \"", Printable(name),
                               "\"; supported by ", traits.name, ": ",
                               traits.ffn_up_activated ? "relu"
                               : traits.ffn_gated      ? "silu relu"
                                                       : "relu relu2"));
  }
  // PowerInfer's llama is ReGLU and does not say so.
  return dialect == GgufDialect::kPowerInfer ? Activation::kRelu : traits.activation;
}

Status ReadSizes(const MetadataReader& meta, ModelConfig* config) {
  TC_ASSIGN_OR_RETURN(config->n_layer, meta.Count("block_count", {1, kMaxLayers}));
  TC_ASSIGN_OR_RETURN(config->n_embd, meta.Count("embedding_length", {1, kMaxEmbd}));
  TC_ASSIGN_OR_RETURN(config->n_ff, meta.Count("feed_forward_length", {1, kMaxFf}));
  TC_ASSIGN_OR_RETURN(config->n_ctx_train, meta.Count("context_length", {1, kMaxContext}));
  return OkStatus();
}

Status ReadHeads(const MetadataReader& meta, ModelConfig* config) {
  TC_ASSIGN_OR_RETURN(config->n_head, meta.Count("attention.head_count", {1, kMaxHeads}));
  TC_ASSIGN_OR_RETURN(config->n_head_kv,
                      meta.CountOr("attention.head_count_kv", {1, kMaxHeads}, config->n_head));
  if (config->n_head % config->n_head_kv != 0) {
    return InvalidArgument(
        Str(meta.Key("attention.head_count"), " is not a multiple of attention.head_count_kv:",
            Kv("head_count", config->n_head), Kv("head_count_kv", config->n_head_kv)));
  }
  const bool has_length = meta.Has("attention.key_length");
  if (!has_length && config->n_embd % config->n_head != 0) {
    return InvalidArgument(
        Str(meta.Key("embedding_length"), " is not a multiple of attention.head_count:",
            Kv("embedding_length", config->n_embd), Kv("head_count", config->n_head)));
  }
  const int derived = config->n_embd / config->n_head;
  TC_ASSIGN_OR_RETURN(config->head_dim,
                      meta.CountOr("attention.key_length", {1, kMaxHeadDim}, derived));
  TC_ASSIGN_OR_RETURN(const int value_length,
                      meta.CountOr("attention.value_length", {1, kMaxHeadDim}, derived));
  if (value_length != config->head_dim) {
    return InvalidArgument(
        Str(meta.Key("attention.value_length"), " differs from attention.key_length:",
            Kv("value_length", value_length), Kv("key_length", config->head_dim)));
  }
  if (config->head_dim > kMaxHeadDim) {
    return InvalidArgument(Str("heads too wide: ", meta.Key("embedding_length"),
                               Kv("head_dim", config->head_dim), Kv("max", kMaxHeadDim)));
  }
  return OkStatus();
}

Result<float> ReadEps(const MetadataReader& meta, const ArchTraits& traits) {
  if (traits.arch == Architecture::kOpt) return meta.FloatOr(traits.eps_key, kOptEps);
  return meta.Float(traits.eps_key);
}

Status ReadAttention(const MetadataReader& meta, const ArchTraits& traits, ModelConfig* config) {
  TC_ASSIGN_OR_RETURN(config->norm_eps, ReadEps(meta, traits));
  if (config->norm_eps < 0) {
    return InvalidArgument(Str("metadata value is negative: ", meta.Key(traits.eps_key),
                               Kv("value", config->norm_eps)));
  }
  TC_ASSIGN_OR_RETURN(config->attention_scale, meta.FloatOr("attention.scale", 0));
  if (config->attention_scale < 0) {
    return InvalidArgument(Str("metadata value is negative: ", meta.Key("attention.scale"),
                               Kv("value", config->attention_scale)));
  }
  if (config->attention_scale == 0) {
    config->attention_scale = 1.0f / std::sqrt(static_cast<float>(config->head_dim));
  }
  TC_ASSIGN_OR_RETURN(const bool causal, meta.BoolOr("attention.causal", true));
  if (!causal) {
    return InvalidArgument(
        Str("only causal attention is supported: ", meta.Key("attention.causal"), " is false"));
  }
  return OkStatus();
}

// The factor that `linear` scaling divides positions by; 1 when there is none.
Result<float> ReadRopeFactor(const MetadataReader& meta, bool has_rope_freqs) {
  TC_ASSIGN_OR_RETURN(const std::string type, meta.StringOr("rope.scaling.type", "linear"));
  if (type == "none") return 1.0f;
  // Llama-3's scaling is in the divisors of rope_freqs.weight; the other keys only describe it.
  if (type == "llama3" && has_rope_freqs) return 1.0f;
  if (type != "linear") {
    return InvalidArgument(Str("unsupported rope scaling: ", meta.Key("rope.scaling.type"), " \"",
                               Printable(type),
                               "\"; none and linear are supported, and llama3 "
                               "where the file has rope_freqs.weight"));
  }
  const std::string_view key =
      meta.Has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  TC_ASSIGN_OR_RETURN(const float factor, meta.FloatOr(key, 1.0f));
  if (factor < 0) {
    return InvalidArgument(Str("metadata value is negative: ", meta.Key(key), Kv("value", factor)));
  }
  return factor == 0 ? 1.0f : factor;  // files without scaling sometimes say 0
}

Status ReadRope(const MetadataReader& meta, const GgufFile& file, ModelConfig* config) {
  RopeConfig& rope = config->rope;
  TC_ASSIGN_OR_RETURN(
      rope.n_rot, meta.CountOr("rope.dimension_count", {2, config->head_dim}, config->head_dim));
  if (rope.n_rot % 2 != 0) {
    return InvalidArgument(Str("rotated elements must be even: ", meta.Key("rope.dimension_count"),
                               Kv("value", rope.n_rot)));
  }
  TC_ASSIGN_OR_RETURN(rope.freq_base, meta.FloatOr("rope.freq_base", 10000.0f));
  if (rope.freq_base <= 0) {
    return InvalidArgument(Str("metadata value must be positive: ", meta.Key("rope.freq_base"),
                               Kv("value", rope.freq_base)));
  }
  const bool has_rope_freqs = file.FindTensor("rope_freqs.weight") != nullptr;
  TC_ASSIGN_OR_RETURN(const float factor, ReadRopeFactor(meta, has_rope_freqs));
  rope.freq_scale = 1.0f / factor;
  if (!std::isfinite(rope.freq_scale)) {
    return InvalidArgument(Str("rope scaling factor too small: ", meta.Key("rope.scaling.factor"),
                               Kv("value", factor)));
  }
  return OkStatus();
}

// The context ends where the table does; PowerInfer's files state the table's length for it.
Status ReadLearnedPositions(const GgufFile& file, ModelConfig* config) {
  const TensorInfo* table = file.FindTensor(kPositionTable);
  if (table == nullptr) {
    return InvalidArgument(
        Str("tensor is missing: ", kPositionTable, " of a ", config->arch_name, " model"));
  }
  if (table->n_rows() <= kOptPositionOffset || table->n_rows() > kMaxContext) {
    return InvalidArgument(Str("number of positions out of bounds: ", kPositionTable,
                               Kv("rows", table->n_rows()), Kv("min", kOptPositionOffset + 1),
                               Kv("max", kMaxContext)));
  }
  config->n_position_rows = static_cast<int>(table->n_rows());
  config->position_offset = kOptPositionOffset;
  config->n_ctx_train = std::min(config->n_ctx_train, config->n_position_rows - kOptPositionOffset);
  return OkStatus();
}

Status ReadPositions(const MetadataReader& meta, const GgufFile& file, ModelConfig* config) {
  return config->arch == Architecture::kOpt ? ReadLearnedPositions(file, config)
                                            : ReadRope(meta, file, config);
}

Status CheckNoExperts(const MetadataReader& meta) {
  TC_ASSIGN_OR_RETURN(const int n_expert, meta.CountOr("expert_count", {0, kMaxFf}, 0));
  if (n_expert == 0) return OkStatus();
  return InvalidArgument(
      Str("expert models are not supported: ", meta.Key("expert_count"), Kv("value", n_expert)));
}

// Number of entries of tokenizer.ggml.tokens, without copying them.
std::optional<size_t> CountTokens(const GgufFile& file) {
  const auto found = file.metadata().find("tokenizer.ggml.tokens");
  if (found == file.metadata().end()) return std::nullopt;
  const auto* tokens = std::get_if<std::vector<std::string>>(&found->second);
  return tokens == nullptr ? std::nullopt : std::optional(tokens->size());
}

Status ReadVocab(const MetadataReader& meta, const GgufFile& file, ModelConfig* config) {
  if (const std::optional<size_t> n_tokens = CountTokens(file)) {
    if (*n_tokens == 0 || *n_tokens > kMaxVocab) {
      return InvalidArgument(Str("tokenizer.ggml.tokens length out of bounds:",
                                 Kv("tokens", *n_tokens), Kv("max", kMaxVocab)));
    }
    config->n_vocab = static_cast<int>(*n_tokens);
  } else {
    TC_ASSIGN_OR_RETURN(config->n_vocab, meta.Count("vocab_size", {1, kMaxVocab}));
  }
  const TensorInfo* token_embd = file.FindTensor("token_embd.weight");
  if (token_embd != nullptr && token_embd->n_rows() != config->n_vocab) {
    return InvalidArgument(Str("vocabulary and token_embd.weight differ:",
                               Kv("n_vocab", config->n_vocab), Kv("rows", token_embd->n_rows())));
  }
  return OkStatus();
}

}  // namespace

std::string_view ActivationName(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return "silu";
    case Activation::kRelu:
      return "relu";
    case Activation::kReluSquared:
      return "relu2";
  }
  return "?";
}

Result<ModelConfig> ModelConfig::FromGguf(const GgufFile& file) {
  TC_ASSIGN_OR_RETURN(const ArchTraits traits, FindArchitecture(file));
  const MetadataReader meta(file, std::string(traits.name));
  ModelConfig config;
  config.arch = traits.arch;
  config.arch_name = traits.name;
  config.dialect = file.dialect();
  config.norm = traits.norm;
  config.ffn_gated = traits.ffn_gated;
  config.ffn_up_activated = traits.ffn_up_activated;
  config.rope.pairing = traits.pairing;
  config.tied_embeddings = file.FindTensor("output.weight") == nullptr;
  // A name is for people: a file whose name is missing or no string still runs.
  if (Result<std::string> name = file.GetString("general.name"); name.ok()) config.name = *name;
  TC_RETURN_IF_ERROR(CheckNoExperts(meta));
  TC_ASSIGN_OR_RETURN(config.activation, ReadActivation(meta, traits, config.dialect));
  TC_RETURN_IF_ERROR(ReadSizes(meta, &config));
  TC_RETURN_IF_ERROR(ReadHeads(meta, &config));
  TC_RETURN_IF_ERROR(ReadAttention(meta, traits, &config));
  TC_RETURN_IF_ERROR(ReadPositions(meta, file, &config));
  TC_RETURN_IF_ERROR(ReadVocab(meta, file, &config));
  return config;
}

Status CheckContext(const ModelConfig& config, int64_t n_ctx) {
  const int n_positions = config.n_position_rows - config.position_offset;
  if (!config.has_learned_positions() || n_ctx <= n_positions) return OkStatus();
  return InvalidArgument(Str("this ", config.arch_name, " model has learned fewer positions:",
                             Kv("n_ctx", n_ctx), Kv("positions", n_positions)));
}

}  // namespace thermocline::model
