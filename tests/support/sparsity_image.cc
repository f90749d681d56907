#include "tests/support/sparsity_image.h"

#include "base/str.h"
#include "tests/support/tiny_model.h"

namespace thermocline::testing {
namespace {

constexpr char kPrefix[] = "thermocline.sparsity.";

void AddPredictors(const SparsitySpec& spec, const model::ModelConfig& config, GgufImage* image) {
  const auto n_layer = static_cast<size_t>(config.n_layer);
  image->AddString(Str(kPrefix, "predictor.input"), spec.input)
      .AddStrings(Str(kPrefix, "predictor.kinds"), std::vector<std::string>(n_layer, spec.kind))
      .AddF32s(Str(kPrefix, "predictor.thresholds"),
               std::vector<float>(n_layer, spec.predictor_threshold));
  if (spec.kind == "none") return;
  for (int i = 0; i < config.n_layer; ++i) {
    const auto add = [&](const char* name, int64_t rows, int64_t cols) {
      const auto n_elems = static_cast<uint64_t>(rows * cols);
      const auto seed = static_cast<uint64_t>(i) * 2 + (rows == config.n_ff ? 1 : 0);
      image->AddTensor(Str("blk.", i, ".", name), DType::kF32, {rows, cols},
                       RandomTensorData({DType::kF32, n_elems, 0.2f, 0, seed}));
    };
    add("fc1.weight", spec.n_hidden, config.n_embd);
    add("fc2.weight", config.n_ff, spec.n_hidden);
  }
}

std::string Identity(int64_t n) {
  std::string data;
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t col = 0; col < n; ++col) data += Packed(row == col ? 1.0f : 0.0f);
  }
  return data;
}

}  // namespace

GgufImage SparsityImage(const SparsitySpec& spec, const model::ModelConfig& config) {
  GgufImage image;
  image.AddString("general.architecture", "thermocline.sparsity")
      .AddU32(Str(kPrefix, "version"), 1)
      .AddString(Str(kPrefix, "model_fingerprint"), spec.fingerprint);
  if (!spec.kind.empty()) AddPredictors(spec, config, &image);
  if (spec.activation_threshold >= 0) {
    image.AddF32s(
        Str(kPrefix, "activation.thresholds"),
        std::vector<float>(static_cast<size_t>(config.n_layer), spec.activation_threshold));
  }
  return image;
}

void PlantExactPredictors(const GgufImage& model, const model::ModelConfig& config,
                          GgufImage* sparsity) {
  GgufImage source = model;
  for (int i = 0; i < config.n_layer; ++i) {
    const std::string block = Str("blk.", i, ".");
    const char* first = config.ffn_gated ? "ffn_gate.weight" : "ffn_up.weight";
    sparsity->RemoveTensor(block + "fc1.weight");
    sparsity->RemoveTensor(block + "fc2.weight");
    sparsity->AddTensor(block + "fc1.weight", DType::kF32, {config.n_embd, config.n_embd},
                        Identity(config.n_embd));
    sparsity->AddTensor(block + "fc2.weight", DType::kF32, {config.n_ff, config.n_embd},
                        source.Tensor(block + first).data);
  }
}

}  // namespace thermocline::testing
