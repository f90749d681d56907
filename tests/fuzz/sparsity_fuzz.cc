// Any bytes as a sparsity file of a small model: what is accepted makes graphs of every layer.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/check.h"
#include "model/ffn_policy.h"
#include "model/graph.h"
#include "model/sparsity.h"
#include "tests/support/tiny_model.h"

namespace thermocline::model {
namespace {

// That of the corpus, which write_sparsity_file made with fingerprint=zeros.
constexpr char kFingerprint[] = "zeros";

struct Model {
  ModelConfig config;
  WeightIndex weights;
};

Model MakeModel() {
  const auto bytes = testing::TinyModel({.n_embd = 8, .n_ff = 8, .n_head = 2, .n_vocab = 8});
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "model"));
  CHECK(file.ok());
  Model model{*ModelConfig::FromGguf(*file), {}};
  model.weights = *WeightIndex::Build(model.config, *file);
  return model;
}

void ReadSparsity(std::span<const std::byte> bytes) {
  static const Model model = MakeModel();
  const auto file = ReadSparsityFile(ReadFromMemory(bytes, "fuzz"), model.config, kFingerprint);
  if (!file.ok()) return;
  WeightIndex weights = model.weights;
  Sparsity attached;
  attached.layers.resize(file->sparsity.layers.size());
  AttachSparsity(*file, &weights, &attached);
  CHECK(weights.PredictorBytesOf({0, model.config.n_layer, true, true}) <= bytes.size());
  for (const FfnMode mode : kFfnModes) {
    if (!CheckFfnMode(model.config, attached, mode).ok()) continue;
    for (int i = 0; i < model.config.n_layer; ++i) {
      const LayerSparsity& layer = attached.layers[static_cast<size_t>(i)];
      const FfnOptions ffn{LayerFfnMode(model.config, layer, mode), false, layer};
      CHECK(!BuildLayerGraph(model.config, weights, i, ffn).ops.empty());
    }
  }
}

}  // namespace
}  // namespace thermocline::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  thermocline::model::ReadSparsity({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
