#include "tests/support/tiny_model.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "base/rng.h"
#include "base/str.h"

namespace thermocline::testing {
namespace {

// A quantised block is random bytes with chosen scales. The weight is then scale * n for an n whose
// deviation over random bytes is `deviation`; where the type has a minimum, dmin = min_ratio *
// scale centres it on 0.
struct BlockScales {
  int scale_at;  // byte offset of the F16 scale
  int min_at;    // of the F16 scale of the minima; -1 when there are none
  float deviation;
  float min_ratio;
};

BlockScales ScalesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return {0, -1, 73.9f, 0};  // int8
    case DType::kQ4_0:
      return {0, -1, 4.64f, 0};  // nibble - 8
    case DType::kQ4_K:
      return {0, 2, 258.0f, 7.5f};  // 6-bit scale * nibble
    case DType::kQ5_K:
      return {0, 2, 527.0f, 15.5f};  // 6-bit scale * 5 bits
    case DType::kQ6_K:
      return {208, -1, 1366.0f, 0};  // int8 scale * (6 bits - 32)
    default:
      break;
  }
  CHECK(false);
}

// Word `i` of the stream `seed`; each counter gives four.
class WordStream {
 public:
  explicit WordStream(uint64_t seed)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}
  uint32_t Next() {
    if (n_ % 4 == 0) words_ = Philox4x32({n_ / 4, 0, 0, 0}, key_);
    return words_[n_++ % 4];
  }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> words_{};
  uint32_t n_ = 0;
};

std::string RandomBlocks(const RandomWeights& weights) {
  const DTypeTraits traits = Traits(weights.dtype);
  const BlockScales scales = ScalesOf(weights.dtype);
  std::string bytes(RowBytes(weights.dtype, weights.n_elems), '\0');
  WordStream stream(weights.seed);
  for (char& byte : bytes) byte = static_cast<char>(stream.Next() & 0xff);
  const float scale = weights.deviation / scales.deviation;
  const auto put = [&](size_t at, float value) { bytes.replace(at, 2, Packed(F32ToF16(value))); };
  for (size_t block = 0; block < bytes.size(); block += traits.block_bytes) {
    put(block + static_cast<size_t>(scales.scale_at), scale);
    if (scales.min_at < 0) continue;
    put(block + static_cast<size_t>(scales.min_at), scale * scales.min_ratio);
  }
  return bytes;
}

std::vector<std::string> TokenTexts(int n_vocab) {
  std::vector<std::string> texts = {"<unk>", "<s>", "</s>"};
  for (int i = 3; i < n_vocab; ++i) {
    char text[16];
    if (i < 259 && n_vocab >= 259) {
      std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(i - 3));
    } else {
      std::snprintf(text, sizeof text, "<t%05d>", i);
    }
    texts.emplace_back(text);
  }
  texts.resize(static_cast<size_t>(n_vocab));
  return texts;
}

// SPM with byte fallback; the tokens beyond the bytes are found by their text.
void AddTokenizer(int n_vocab, GgufImage* image) {
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (int i = 0; i < n_vocab; ++i) {
    const bool is_byte = i >= 3 && i < 259 && n_vocab >= 259;
    scores.push_back(i < 3 ? 0.0f : -1000.0f);
    types.push_back(i == 0 ? 2 : i < 3 ? 3 : is_byte ? 6 : 4);
  }
  image->AddString("tokenizer.ggml.model", "llama")
      .AddString("tokenizer.ggml.pre", "default")
      .AddStrings("tokenizer.ggml.tokens", TokenTexts(n_vocab))
      .AddF32s("tokenizer.ggml.scores", scores)
      .AddI32s("tokenizer.ggml.token_type", types)
      .AddU32("tokenizer.ggml.bos_token_id", 1)
      .AddU32("tokenizer.ggml.eos_token_id", 2)
      .AddU32("tokenizer.ggml.unknown_token_id", 0)
      .AddBool("tokenizer.ggml.add_bos_token", false)
      .AddBool("tokenizer.ggml.add_space_prefix", false)
      .AddString("tokenizer.chat_template",
                 "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
                 "{% if add_generation_prompt %}[assistant]{% endif %}");
}

bool IsOpt(const TinyModelSpec& spec) { return spec.arch == "opt"; }
bool HasLayerNorm(const TinyModelSpec& spec) { return spec.arch == "nemotron" || IsOpt(spec); }
int KvHeads(const TinyModelSpec& spec) { return IsOpt(spec) ? spec.n_head : spec.n_head_kv; }

void AddRope(const TinyModelSpec& spec, GgufImage* image) {
  const int head_dim = spec.n_embd / spec.n_head;
  const int n_rot = spec.arch == "nemotron" ? head_dim / 2 : head_dim;
  image->AddU32(Str(spec.arch, ".attention.head_count_kv"), static_cast<uint32_t>(spec.n_head_kv))
      .AddU32(Str(spec.arch, ".rope.dimension_count"), static_cast<uint32_t>(n_rot));
}

void AddMetadata(const TinyModelSpec& spec, GgufImage* image) {
  const std::string& arch = spec.arch;
  const auto size = [&](const char* key, int value) {
    image->AddU32(Str(arch, ".", key), static_cast<uint32_t>(value));
  };
  image->AddString("general.architecture", arch).AddString("general.name", Str("tiny-", arch));
  size("context_length", spec.n_ctx);
  size("embedding_length", spec.n_embd);
  size("block_count", spec.n_layer);
  size("feed_forward_length", spec.n_ff);
  size("attention.head_count", spec.n_head);
  if (!IsOpt(spec)) AddRope(spec, image);
  image->AddF32(Str(arch, HasLayerNorm(spec) ? ".attention.layer_norm_epsilon"
                                             : ".attention.layer_norm_rms_epsilon"),
                1e-5f);
  if (!spec.activation.empty()) {
    image->AddString(Str(arch, ".hidden_activation"), spec.activation);
  }
  if (spec.dialect == GgufDialect::kPowerInfer) {
    image->AddF32("powerinfer.sparse_threshold", spec.predictor_threshold);
  }
}

// Adds tensors with a fresh seed for each.
class TensorWriter {
 public:
  TensorWriter(const TinyModelSpec& spec, GgufImage* image) : spec_(spec), image_(image) {}

  // w[rows, cols] whose products with inputs of order 1 have deviation `gain`.
  void Matrix(const std::string& name, int rows, int cols, float gain) {
    Random(name, spec_.dtype, {rows, cols}, gain / std::sqrt(static_cast<float>(cols)), 0);
  }
  // The same, stored with one row per input.
  void MatrixByInput(const std::string& name, int rows, int cols, float gain) {
    Random(name, spec_.dtype, {rows, cols}, gain / std::sqrt(static_cast<float>(rows)), 0);
  }
  void Vector(const std::string& name, int n, float deviation, float mean) {
    Random(name, DType::kF32, {n}, deviation, mean);
  }
  // scores = fc2 relu(fc1 x) with fc1 = [I; -I] and fc2 = [W, -W], so W x, for the gate W with the
  // norm's weights multiplied in: RMSNorm only scales each row of x besides.
  void ExactPredictor(const std::string& block) {
    CHECK(spec_.dtype == DType::kF32);
    const auto n_embd = static_cast<size_t>(spec_.n_embd);
    const std::vector<float> gate = Floats(block + "ffn_gate.weight");
    const std::vector<float> norm = Floats(block + "ffn_norm.weight");
    std::vector<float> fc1(2 * n_embd * n_embd, 0.0f);
    std::vector<float> fc2(2 * gate.size());
    for (size_t i = 0; i < n_embd; ++i) {
      fc1[i * n_embd + i] = 1;
      fc1[(n_embd + i) * n_embd + i] = -1;
    }
    for (size_t at = 0; at < gate.size(); ++at) {
      const size_t col = at % n_embd;
      float* row = fc2.data() + at / n_embd * 2 * n_embd;
      row[col] = gate[at] * norm[col];
      row[n_embd + col] = -row[col];
    }
    Given(block + "fc1.weight", 2 * spec_.n_embd, spec_.n_embd, fc1);
    Given(block + "fc2.weight", spec_.n_ff, 2 * spec_.n_embd, fc2);
  }

 private:
  void Random(const std::string& name, DType dtype, const std::vector<int64_t>& shape,
              float deviation, float mean) {
    uint64_t n_elems = 1;
    for (const int64_t dim : shape) n_elems *= static_cast<uint64_t>(dim);
    const uint64_t seed = spec_.seed * 1'000'003 + n_tensors_++;
    image_->AddTensor(name, dtype, shape,
                      RandomTensorData({dtype, n_elems, deviation, mean, seed}));
  }

  std::vector<float> Floats(const std::string& name) const {
    const std::string& data = image_->Tensor(name).data;
    std::vector<float> floats(data.size() / sizeof(float));
    std::memcpy(floats.data(), data.data(), data.size());
    return floats;
  }
  void Given(const std::string& name, int rows, int cols, const std::vector<float>& values) {
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    image_->AddTensor(name, DType::kF32, {rows, cols}, {bytes, values.size() * sizeof(float)});
  }

  const TinyModelSpec& spec_;
  GgufImage* image_;
  uint64_t n_tensors_ = 0;
};

void AddNorm(const TinyModelSpec& spec, const std::string& name, TensorWriter* out) {
  out->Vector(name + ".weight", spec.n_embd, 0.1f, 1.0f);
  if (HasLayerNorm(spec)) out->Vector(name + ".bias", spec.n_embd, 0.1f, 0);
}

void AddAttention(const TinyModelSpec& spec, const std::string& block, TensorWriter* out) {
  const int n_kv = spec.n_embd / spec.n_head * KvHeads(spec);
  AddNorm(spec, block + "attn_norm", out);
  out->Matrix(block + "attn_q.weight", spec.n_embd, spec.n_embd, 1.5f);
  out->Matrix(block + "attn_k.weight", n_kv, spec.n_embd, 1.5f);
  out->Matrix(block + "attn_v.weight", n_kv, spec.n_embd, 1.0f);
  if (spec.arch == "qwen2" || IsOpt(spec)) {
    out->Vector(block + "attn_q.bias", spec.n_embd, 0.3f, 0);
    out->Vector(block + "attn_k.bias", n_kv, 0.3f, 0);
    out->Vector(block + "attn_v.bias", n_kv, 0.3f, 0);
  }
  out->Matrix(block + "attn_output.weight", spec.n_embd, spec.n_embd, 0.7f);
  if (IsOpt(spec)) out->Vector(block + "attn_output.bias", spec.n_embd, 0.3f, 0);
}

void AddFfn(const TinyModelSpec& spec, const std::string& block, TensorWriter* out) {
  AddNorm(spec, block + "ffn_norm", out);
  if (spec.arch == "llama" || spec.arch == "qwen2" || spec.arch == "bamboo") {
    out->Matrix(block + "ffn_gate.weight", spec.n_ff, spec.n_embd, 1.5f);
  }
  out->Matrix(block + "ffn_up.weight", spec.n_ff, spec.n_embd, 1.0f);
  const bool by_neuron = spec.dialect == GgufDialect::kPowerInfer;
  if (IsOpt(spec)) {
    out->Vector(block + "ffn_up.bias", spec.n_ff, 0.3f, 0);
    out->Vector(block + (by_neuron ? "ffn_down_t.bias" : "ffn_down.bias"), spec.n_embd, 0.3f, 0);
  }
  if (by_neuron) {
    out->MatrixByInput(block + "ffn_down_t.weight", spec.n_ff, spec.n_embd, 0.7f);
    if (spec.exact_predictor) return out->ExactPredictor(block);
    out->Matrix(block + "fc1.weight", spec.n_predictor, spec.n_embd, 1.0f);
    out->Matrix(block + "fc2.weight", spec.n_ff, spec.n_predictor, 1.0f);
  } else {
    out->Matrix(block + "ffn_down.weight", spec.n_embd, spec.n_ff, 0.7f);
  }
}

}  // namespace

std::string RandomTensorData(const RandomWeights& weights) {
  if (!IsFloat(weights.dtype)) return RandomBlocks(weights);
  std::string bytes(RowBytes(weights.dtype, weights.n_elems), '\0');
  const size_t elem_bytes = Traits(weights.dtype).block_bytes;
  WordStream stream(weights.seed);
  // Uniform in [-h, h) has deviation h / sqrt(3).
  const float half_width = std::sqrt(3.0f) * weights.deviation;
  for (size_t at = 0; at < bytes.size(); at += elem_bytes) {
    const float unit = static_cast<float>(stream.Next() >> 8) * 0x1p-23f - 1.0f;
    const float value = weights.mean + unit * half_width;
    const uint16_t half = weights.dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    const void* from = weights.dtype == DType::kF32 ? static_cast<const void*>(&value) : &half;
    std::memcpy(bytes.data() + at, from, elem_bytes);
  }
  return bytes;
}

GgufImage TinyModelImage(const TinyModelSpec& spec) {
  GgufImage image = GgufImage::Of(spec.dialect);
  AddMetadata(spec, &image);
  AddTokenizer(spec.n_vocab, &image);
  TensorWriter out(spec, &image);
  // An embedding row has deviation 1; a head product has deviation 3.
  out.MatrixByInput("token_embd.weight", spec.n_vocab, spec.n_embd,
                    std::sqrt(static_cast<float>(spec.n_vocab)));
  // Two rows before that of position 0.
  if (IsOpt(spec)) {
    out.MatrixByInput("position_embd.weight", spec.n_ctx + 2, spec.n_embd,
                      std::sqrt(static_cast<float>(spec.n_ctx + 2)));
  }
  if (spec.rope_freqs) {
    const int n_rot = spec.n_embd / spec.n_head / (spec.arch == "nemotron" ? 2 : 1);
    out.Vector("rope_freqs.weight", n_rot / 2, 0.5f, 2.0f);
  }
  for (int i = 0; i < spec.n_layer; ++i) {
    const std::string block = Str("blk.", i, ".");
    AddAttention(spec, block, &out);
    AddFfn(spec, block, &out);
  }
  AddNorm(spec, "output_norm", &out);
  if (!spec.tied && !IsOpt(spec)) out.Matrix("output.weight", spec.n_vocab, spec.n_embd, 3.0f);
  return image;
}

std::vector<std::byte> TinyModel(const TinyModelSpec& spec) { return TinyModelImage(spec).Bytes(); }

}  // namespace thermocline::testing
