#include "tools/synth/synth_metadata.h"

#include <cstdio>
#include <string>
#include <vector>

#include "base/str.h"
#include "tools/convert/conversion_plan.h"

namespace thermocline::tools {
namespace {

constexpr int32_t kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6;
// U+2581, which stands for a space.
constexpr const char* kSpace = "\xE2\x96\x81";

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;

  void Add(std::string text, float score, int32_t type) {
    tokens.push_back(std::move(text));
    scores.push_back(score);
    types.push_back(type);
  }
};

std::string Formatted(const char* format, int64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, format, static_cast<long long>(value));
  return text;
}

Vocabulary MakeVocabulary(int64_t n_vocab) {
  Vocabulary v;
  v.Add("<unk>", 0, kUnknown);
  v.Add("<s>", 0, kControl);
  v.Add("</s>", 0, kControl);
  for (int byte = 0; byte < 256; ++byte) v.Add(Formatted("<0x%02llX>", byte), 0, kByte);
  const auto has_room = [&] { return static_cast<int64_t>(v.tokens.size()) < n_vocab; };
  if (has_room()) v.Add(kSpace, -1, kNormal);
  for (char c = '!'; c <= '~' && has_room(); ++c) v.Add(std::string(1, c), -1, kNormal);
  for (int64_t i = 0; has_room(); ++i) v.Add(kSpace + Formatted("w%05lld", i), -2, kNormal);
  return v;
}

void SetVocabulary(const Vocabulary& v, model::GgufMetadata* metadata) {
  metadata->SetString("tokenizer.ggml.model", "llama");
  metadata->SetString("tokenizer.ggml.pre", "default");
  metadata->SetStrings("tokenizer.ggml.tokens", v.tokens);
  metadata->SetF32s("tokenizer.ggml.scores", v.scores);
  metadata->SetI32s("tokenizer.ggml.token_type", v.types);
  metadata->SetU32("tokenizer.ggml.unknown_token_id", 0);
  metadata->SetU32("tokenizer.ggml.bos_token_id", 1);
  metadata->SetU32("tokenizer.ggml.eos_token_id", 2);
}

void SetNormAndPositions(const SynthOptions& options, model::GgufMetadata* metadata) {
  if (options.is_opt()) {
    metadata->SetF32("opt.attention.layer_norm_epsilon", kNormEps);
    return;
  }
  metadata->SetF32(options.arch + ".attention.layer_norm_rms_epsilon", kNormEps);
  const auto n_rot = static_cast<uint32_t>(options.shape.head_dim());
  metadata->SetU32(options.arch + ".rope.dimension_count", n_rot);
  metadata->SetF32(options.arch + ".rope.freq_base", kRopeBase);
}

}  // namespace

model::GgufMetadata SynthMetadata(const SynthOptions& options) {
  const SynthShape& s = options.shape;
  model::GgufMetadata metadata;
  metadata.SetString("general.architecture", options.arch);
  metadata.SetString("general.name", Str("synthetic-", options.arch, "-d", s.n_embd, "-ff", s.n_ff,
                                         "-L", s.n_layer));
  const std::pair<const char*, int64_t> sizes[] = {
      {"context_length", s.n_ctx},        {"embedding_length", s.n_embd},
      {"block_count", s.n_layer},         {"feed_forward_length", s.n_ff},
      {"attention.head_count", s.n_head}, {"attention.head_count_kv", s.n_head_kv},
      {"vocab_size", s.n_vocab}};
  for (const auto& [key, value] : sizes) {
    metadata.SetU32(Str(options.arch, ".", key), static_cast<uint32_t>(value));
  }
  SetNormAndPositions(options, &metadata);
  // PowerInfer's llama is ReGLU anyway.
  if (options.gated() && !options.powerinfer) {
    metadata.SetString(options.arch + ".hidden_activation", "relu");
  }
  if (options.powerinfer) metadata.SetF32("powerinfer.sparse_threshold", 0);
  metadata.SetU32("general.file_type", FileTypeOf(options.dtype));
  if (!IsFloat(options.dtype)) metadata.SetU32("general.quantization_version", 2);
  SetVocabulary(MakeVocabulary(s.n_vocab), &metadata);
  return metadata;
}

}  // namespace thermocline::tools
