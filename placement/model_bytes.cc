#include "placement/model_bytes.h"

#include "base/dtype.h"

namespace thermocline::placement {
namespace {

std::vector<uint64_t> PrefixSums(const std::vector<uint64_t>& values, size_t n) {
  std::vector<uint64_t> sums(n + 1, 0);
  for (size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + (i < values.size() ? values[i] : 0);
  return sums;
}

uint64_t RelayOf(const model::WeightIndex& weights, int layer) {
  const model::TensorInfo* down = weights.Find(model::WeightRole::kFfnDown, layer);
  if (down == nullptr) return 0;
  const DType type = model::NeuronRowType(down->dtype, down->n_rows());
  const uint64_t as_rows = RowBytes(type, uint64_t(down->n_rows()) * down->n_cols());
  return as_rows - std::min(as_rows, down->size_bytes);
}

}  // namespace

ModelBytes::ModelBytes(const Parts& parts)
    : layers_(PrefixSums(parts.layers, parts.layers.size())),
      relay_(PrefixSums(parts.relay, parts.layers.size())),
      predictors_(PrefixSums(parts.predictors, parts.layers.size())),
      shared_(parts.shared),
      embed_(parts.embed),
      head_(parts.head),
      both_ends_(parts.both_ends) {}

ModelBytes ModelBytes::Of(const model::ModelConfig& config, const model::WeightIndex& weights,
                          model::FfnModes ffn) {
  const int n = config.n_layer;
  Parts parts;
  const auto bytes = [&](int begin, int end, bool embed, bool head) {
    return weights.BytesOf({begin, end, embed, head});
  };
  // What two neighbours hold apart but not together is what every stage holds.
  if (n >= 2) {
    const uint64_t apart = bytes(0, 1, false, false) + bytes(1, 2, false, false);
    parts.shared = apart - bytes(0, 2, false, false);
  }
  for (int layer = 0; layer < n; ++layer) {
    parts.layers.push_back(bytes(layer, layer + 1, false, false) - parts.shared);
    if (ffn.needs_neuron_rows()) parts.relay.push_back(RelayOf(weights, layer));
    if (ffn.Has(model::FfnMode::kPredicted)) {
      parts.predictors.push_back(weights.PredictorBytesOf({layer, layer + 1, false, false}));
    }
  }
  const uint64_t inner = bytes(0, n, false, false);
  parts.embed = bytes(0, n, true, false) - inner;
  parts.head = bytes(0, n, false, true) - inner;
  parts.both_ends = bytes(0, n, true, true) - inner;
  return ModelBytes(parts);
}

uint64_t ModelBytes::Weights(const model::LayerRange& layers) const {
  uint64_t bytes = shared_ + layers_[layers.end] - layers_[layers.begin];
  if (layers.has_embed && layers.has_head) return bytes + both_ends_;
  if (layers.has_embed) bytes += embed_;
  if (layers.has_head) bytes += head_;
  return bytes;
}

uint64_t ModelBytes::Relay(const model::LayerRange& layers) const {
  return relay_[layers.end] - relay_[layers.begin];
}

uint64_t ModelBytes::Predictors(const model::LayerRange& layers) const {
  return predictors_[layers.end] - predictors_[layers.begin];
}

uint64_t ModelBytes::Streamed(const model::LayerRange& layers) const {
  model::LayerRange read = layers;
  read.has_embed = false;
  return Weights(read);
}

}  // namespace thermocline::placement
