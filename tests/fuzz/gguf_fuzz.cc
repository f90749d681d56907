// Any bytes as a model file: header, configuration, weight index and the graphs of every layer.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "model/config.h"
#include "model/ffn_policy.h"
#include "model/gguf.h"
#include "model/graph.h"
#include "model/sparsity.h"
#include "model/weights.h"

namespace thermocline::model {
namespace {

// What a parsed file promises: every tensor lies inside it.
void CheckTensors(const GgufFile& file, uint64_t file_bytes) {
  for (const TensorInfo& tensor : file.tensors()) {
    CHECK(tensor.offset_bytes >= file.header_bytes());
    CHECK(tensor.size_bytes <= file_bytes - tensor.offset_bytes);
    CHECK(file.FindTensor(tensor.name) == &tensor);
  }
}

void BuildGraphs(const ModelConfig& config, const WeightIndex& weights, const Sparsity& sparsity) {
  for (const FfnMode mode : kFfnModes) {
    if (!CheckFfnMode(config, sparsity, mode).ok()) continue;
    for (int layer = 0; layer < config.n_layer; ++layer) {
      const LayerSparsity& own = sparsity.layers[static_cast<size_t>(layer)];
      const Graph graph =
          BuildLayerGraph(config, weights, layer, {LayerFfnMode(config, own, mode), false, own});
      for (const Op& op : graph.ops) CHECK(op.weights.empty() || WeightBytes(op, weights) > 0);
    }
  }
  CHECK(!BuildEmbedGraph(config).ops.empty());
  CHECK(!BuildHeadGraph(config, weights).ops.empty());
}

void ReadModel(std::span<const std::byte> bytes) {
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "fuzz"));
  if (!file.ok()) return;
  CheckTensors(*file, bytes.size());
  const auto config = ModelConfig::FromGguf(*file);
  if (!config.ok()) return;
  const auto weights = WeightIndex::Build(*config, *file);
  if (!weights.ok()) return;
  CHECK(weights->BytesOf({0, config->n_layer, true, true}) <= bytes.size());
  const auto sparsity = SparsityOfModel(*file, *config, *weights);
  if (sparsity.ok()) BuildGraphs(*config, *weights, *sparsity);
}

}  // namespace
}  // namespace thermocline::model

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  thermocline::model::ReadModel({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
