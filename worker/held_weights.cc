#include "worker/held_weights.h"

#include <algorithm>
#include <span>
#include <utility>

#include "worker/byte_ranges.h"

namespace thermocline::worker {
namespace {

using model::ByteRange;
using model::NeuronRange;
using model::WeightKey;
using model::WeightRole;

// Bytes between two rows that are fetched with them: a request of their own would cost more.
constexpr uint64_t kGapBytes = 64 << 10;

// The rows of a matrix, or the values of a vector, that belong to the neurons of some places, or to
// heads.
std::vector<ByteRange> RangesOf(const model::TensorInfo& info, const NeuronRange& places,
                                std::span<const int32_t> order) {
  const bool is_vector = info.shape.size() < 2;
  const auto n = static_cast<uint64_t>(is_vector ? info.n_cols() : info.n_rows());
  const uint64_t stride = info.size_bytes / n;
  const auto range_of = [&](int64_t begin, int64_t end) {
    return ByteRange{info.offset_bytes + stride * static_cast<uint64_t>(begin),
                     info.offset_bytes + stride * static_cast<uint64_t>(end)};
  };
  if (order.empty()) return {range_of(places.begin, places.end)};
  const auto held =
      order.subspan(static_cast<size_t>(places.begin), static_cast<size_t>(places.size()));
  std::vector<int32_t> neurons(held.begin(), held.end());
  std::sort(neurons.begin(), neurons.end());
  std::vector<ByteRange> ranges;
  for (const int32_t neuron : neurons) {
    const ByteRange row = range_of(neuron, neuron + 1);
    if (!ranges.empty() && row.begin - ranges.back().end <= kGapBytes) {
      ranges.back().end = row.end;
    } else {
      ranges.push_back(row);
    }
  }
  return ranges;
}

}  // namespace

bool IsHeld(const WeightKey& key, const model::LayerRange& layers, const FfnPlan& ffn) {
  if (!ffn.is_helper) return true;
  if (key.layer == model::kNoLayer) {
    return ffn.heads.is_shared() && key.role == WeightRole::kRopeFreqs;
  }
  if (model::IsPerHead(key.role) || key.role == WeightRole::kAttnNorm ||
      key.role == WeightRole::kAttnNormBias) {
    return ffn.heads.is_shared();
  }
  if (ffn.neurons[static_cast<size_t>(key.layer - layers.begin)].empty()) return false;
  return model::IsPerNeuron(key.role) || key.role == WeightRole::kFfnNorm ||
         key.role == WeightRole::kFfnNormBias || key.role == WeightRole::kPredictorFc1;
}

WeightKey KeyInMemory(const WeightKey& key, const FfnPlan& ffn) {
  if (key.role != WeightRole::kFfnDown || !ffn.has_neuron_rows()) return key;
  return {key.layer, WeightRole::kFfnDownT};
}

std::vector<ByteRange> HeldRanges(const model::WeightIndex& weights,
                                  const std::vector<WeightKey>& keys,
                                  const model::LayerRange& layers, const FfnPlan& ffn,
                                  int n_head_kv, const model::NeuronOrder& order) {
  std::vector<ByteRange> ranges;
  for (const WeightKey& key : keys) {
    if (!IsHeld(key, layers, ffn)) continue;
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    if (ffn.heads.is_shared() && model::IsPerHead(key.role)) {
      const auto n_rows = info.shape.size() < 2 ? info.n_cols() : info.n_rows();
      const NeuronRange rows = {n_rows / n_head_kv * ffn.heads.own.begin,
                                n_rows / n_head_kv * ffn.heads.own.end};
      const auto held = RangesOf(info, rows, {});
      ranges.insert(ranges.end(), held.begin(), held.end());
      continue;
    }
    if (!ffn.is_shared() || !model::IsPerNeuron(key.role) || key.role == WeightRole::kFfnDown) {
      ranges.push_back({info.offset_bytes, info.offset_bytes + info.size_bytes});
      continue;
    }
    const NeuronRange& places = ffn.neurons[static_cast<size_t>(key.layer - layers.begin)];
    const auto rows = RangesOf(info, places, order.Of(key.layer));
    ranges.insert(ranges.end(), rows.begin(), rows.end());
  }
  return Merged(std::move(ranges));
}

}  // namespace thermocline::worker
