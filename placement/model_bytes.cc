#include "placement/model_bytes.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

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

// As a worker holds it in memory; 0 when there is none.
uint64_t HeldBytes(const model::WeightIndex& weights, model::WeightRole role, int layer) {
  const model::TensorInfo* tensor = weights.Find(role, layer);
  return tensor == nullptr ? 0 : model::HeldAs(role, *tensor, false).size_bytes();
}

// By rows in 8 bits, of which both types take the same.
uint64_t SavedOf(const model::WeightIndex& weights, int layer, bool neuron_rows) {
  using Role = model::WeightRole;
  uint64_t saved = 0;
  for (const Role role : {Role::kFfnGate, Role::kFfnUp, Role::kFfnDown, Role::kFfnDownT}) {
    const model::TensorInfo* tensor = weights.Find(role, layer);
    if (tensor == nullptr) continue;
    const model::HeldWeight as_is = model::HeldAs(role, *tensor, neuron_rows);
    saved += as_is.size_bytes() - model::HeldIn(NeuronRows::kFp8E4M3, role, as_is).size_bytes();
  }
  return saved;
}

// Gate, up and down with their biases; the bias of down is added once, by the lead.
PartBytes NeuronBytesOf(const model::WeightIndex& weights, int layer, bool predicted) {
  using Role = model::WeightRole;
  PartBytes bytes;
  for (const Role role : {Role::kFfnGate, Role::kFfnGateBias, Role::kFfnUp, Role::kFfnUpBias,
                          Role::kFfnDown, Role::kFfnDownT}) {
    const model::TensorInfo* tensor = weights.Find(role, layer);
    if (tensor != nullptr) bytes.weights += tensor->size_bytes;
  }
  bytes.relay = RelayOf(weights, layer);
  bytes.saved = SavedOf(weights, layer, true);
  if (predicted) bytes.predictors = HeldBytes(weights, Role::kPredictorFc2, layer);
  return bytes;
}

// The FFN's norm, which a helper computes again from x, and the predictor's first half.
PartBytes HelperBytesOf(const model::WeightIndex& weights, int layer, bool predicted) {
  using Role = model::WeightRole;
  PartBytes bytes;
  for (const Role role : {Role::kFfnNorm, Role::kFfnNormBias}) {
    const model::TensorInfo* tensor = weights.Find(role, layer);
    if (tensor != nullptr) bytes.weights += tensor->size_bytes;
  }
  if (predicted) bytes.predictors = HeldBytes(weights, Role::kPredictorFc1, layer);
  return bytes;
}

uint64_t BytesOf(const model::WeightIndex& weights, int layer,
                 std::initializer_list<model::WeightRole> roles) {
  uint64_t n_bytes = 0;
  for (const model::WeightRole role : roles) {
    const model::TensorInfo* tensor = weights.Find(role, layer);
    if (tensor != nullptr) n_bytes += tensor->size_bytes;
  }
  return n_bytes;
}

uint64_t HeadBytesOf(const model::WeightIndex& weights, int layer) {
  using Role = model::WeightRole;
  return BytesOf(weights, layer,
                 {Role::kAttnQ, Role::kAttnQBias, Role::kAttnK, Role::kAttnKBias, Role::kAttnV,
                  Role::kAttnVBias});
}

// n * numerator / denominator without a product beyond 64 bits.
uint64_t Portion(uint64_t n, int64_t numerator, int64_t denominator) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(n) *
                               static_cast<uint64_t>(numerator) /
                               static_cast<uint64_t>(denominator));
}

PartBytes Portion(const PartBytes& bytes, int64_t numerator, int64_t denominator) {
  return {Portion(bytes.weights, numerator, denominator),
          Portion(bytes.relay, numerator, denominator),
          Portion(bytes.predictors, numerator, denominator),
          Portion(bytes.saved, numerator, denominator)};
}

PartBytes operator-(const PartBytes& a, const PartBytes& b) {
  return {a.weights - b.weights, a.relay - b.relay, a.predictors - b.predictors, a.saved - b.saved};
}

}  // namespace

PartBytes& PartBytes::operator+=(const PartBytes& other) {
  weights += other.weights;
  relay += other.relay;
  predictors += other.predictors;
  saved += other.saved;
  return *this;
}

ModelBytes::ModelBytes(const Parts& parts)
    : layers_(PrefixSums(parts.layers, parts.layers.size())),
      relay_(PrefixSums(parts.relay, parts.layers.size())),
      predictors_(PrefixSums(parts.predictors, parts.layers.size())),
      saved_(PrefixSums(parts.saved, parts.layers.size())),
      shared_(parts.shared),
      embed_(parts.embed),
      head_(parts.head),
      both_ends_(parts.both_ends),
      n_ff_(parts.n_ff),
      neurons_(parts.neurons),
      helper_(parts.helper),
      heads_(parts.heads),
      heads_helper_(parts.heads_helper),
      heads_shared_(parts.heads_shared),
      n_head_kv_(parts.n_head_kv) {}

ModelBytes ModelBytes::Of(const model::ModelConfig& config, const model::WeightIndex& weights,
                          model::FfnModes ffn) {
  const int n = config.n_layer;
  const bool predicted = ffn.Has(model::FfnMode::kPredicted);
  Parts parts;
  parts.n_ff = std::max(config.n_ff, 1);
  parts.n_head_kv = std::max(config.n_head_kv, 1);
  parts.heads_shared = BytesOf(weights, model::kNoLayer, {model::WeightRole::kRopeFreqs});
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
    parts.saved.push_back(SavedOf(weights, layer, ffn.needs_neuron_rows()));
    parts.neurons.push_back(NeuronBytesOf(weights, layer, predicted));
    parts.helper.push_back(HelperBytesOf(weights, layer, predicted));
    parts.heads.push_back(HeadBytesOf(weights, layer));
    parts.heads_helper.push_back(
        BytesOf(weights, layer, {model::WeightRole::kAttnNorm, model::WeightRole::kAttnNormBias}));
    if (predicted) {
      parts.predictors.push_back(HeldBytes(weights, model::WeightRole::kPredictorFc1, layer) +
                                 HeldBytes(weights, model::WeightRole::kPredictorFc2, layer));
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

PartBytes ModelBytes::WholePart(const model::LayerRange& layers, NeuronRows rows) const {
  PartBytes bytes = {Weights(layers), Relay(layers), Predictors(layers)};
  if (rows != NeuronRows::kAsIs) bytes.saved = saved_[layers.end] - saved_[layers.begin];
  return bytes;
}

ModelBytes::Shares ModelBytes::HeldShares(NeuronRows rows, const model::LayerRange& layers,
                                          Form form) const {
  if (rows == NeuronRows::kAsIs || neurons_.empty()) return {};
  std::optional<Shares> shares;
  for (auto layer = static_cast<size_t>(layers.begin); layer < size_t(layers.end); ++layer) {
    PartBytes whole = neurons_[layer];
    if (form == Form::kAlone) {
      whole.relay = relay_[layer + 1] - relay_[layer];
      whole.saved = saved_[layer + 1] - saved_[layer];
    }
    const auto narrow = static_cast<double>(whole.sum());
    whole.saved = 0;
    const auto as_is = static_cast<double>(whole.sum());
    const double share = as_is > 0 ? narrow / as_is : 1;
    if (!shares) shares = {share, share};
    shares = {std::min(shares->least, share), std::max(shares->most, share)};
  }
  return shares.value_or(Shares{});
}

PartBytes ModelBytes::Neurons(int layer, const NeuronRange& range, NeuronRows rows) const {
  PartBytes whole = neurons_[static_cast<size_t>(layer)];
  if (rows == NeuronRows::kAsIs) whole.saved = 0;
  return Portion(whole, range.end, n_ff_) - Portion(whole, range.begin, n_ff_);
}

uint64_t ModelBytes::Heads(int layer, const HeadRange& heads) const {
  const uint64_t whole = heads_[static_cast<size_t>(layer)];
  return Portion(whole, heads.end, n_head_kv_) - Portion(whole, heads.begin, n_head_kv_);
}

PartBytes ModelBytes::LeadPart(const model::LayerRange& layers,
                               std::span<const NeuronRange> neurons, NeuronRows rows,
                               const HeadRange& heads) const {
  PartBytes bytes = {Weights(layers), 0, Predictors(layers)};
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    const PartBytes& whole = neurons_[static_cast<size_t>(layer)];
    bytes = bytes - PartBytes{whole.weights, 0, whole.predictors};
    bytes += Neurons(layer, neurons[static_cast<size_t>(layer - layers.begin)], rows);
    if (heads.empty()) continue;
    bytes.weights -= heads_[static_cast<size_t>(layer)];
    bytes.weights += Heads(layer, heads);
  }
  return bytes;
}

PartBytes ModelBytes::HelperPart(const model::LayerRange& layers,
                                 std::span<const NeuronRange> neurons, NeuronRows rows,
                                 const HeadRange& heads) const {
  PartBytes bytes;
  if (!heads.empty()) bytes.weights += heads_shared_;
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    if (!heads.empty()) {
      bytes.weights += Heads(layer, heads) + heads_helper_[static_cast<size_t>(layer)];
    }
    const NeuronRange& range = neurons[static_cast<size_t>(layer - layers.begin)];
    if (range.empty()) continue;
    bytes += Neurons(layer, range, rows);
    bytes += helper_[static_cast<size_t>(layer)];
  }
  return bytes;
}

uint64_t ModelBytes::Streamed(const model::LayerRange& layers) const {
  model::LayerRange read = layers;
  read.has_embed = false;
  return Weights(read);
}

}  // namespace thermocline::placement
