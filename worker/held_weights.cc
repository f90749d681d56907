#include "worker/held_weights.h"

namespace thermocline::worker {
namespace {

using model::ByteRange;
using model::NeuronRange;
using model::WeightKey;
using model::WeightRole;

// The rows of a matrix, or the values of a vector, that belong to `neurons`.
ByteRange RangeOf(const model::TensorInfo& info, const NeuronRange& neurons) {
  const bool is_vector = info.shape.size() < 2;
  const auto n = static_cast<uint64_t>(is_vector ? info.n_cols() : info.n_rows());
  const uint64_t stride = info.size_bytes / n;
  return {info.offset_bytes + stride * static_cast<uint64_t>(neurons.begin),
          info.offset_bytes + stride * static_cast<uint64_t>(neurons.end)};
}

}  // namespace

bool IsHeld(const WeightKey& key, const model::LayerRange& layers, const FfnPlan& ffn) {
  if (!ffn.is_helper) return true;
  if (key.layer == model::kNoLayer) return false;
  if (ffn.neurons[static_cast<size_t>(key.layer - layers.begin)].empty()) return false;
  return model::IsPerNeuron(key.role) || key.role == WeightRole::kFfnNorm ||
         key.role == WeightRole::kFfnNormBias || key.role == WeightRole::kPredictorFc1;
}

std::vector<ByteRange> HeldRanges(const model::WeightIndex& weights,
                                  const std::vector<WeightKey>& keys,
                                  const model::LayerRange& layers, const FfnPlan& ffn) {
  std::vector<ByteRange> ranges;
  for (const WeightKey& key : keys) {
    if (!IsHeld(key, layers, ffn)) continue;
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    ByteRange range = {info.offset_bytes, info.offset_bytes + info.size_bytes};
    if (ffn.is_shared() && model::IsPerNeuron(key.role) && key.role != WeightRole::kFfnDown) {
      range = RangeOf(info, ffn.neurons[static_cast<size_t>(key.layer - layers.begin)]);
    }
    if (range.begin == range.end) continue;
    if (!ranges.empty() && ranges.back().end == range.begin) {
      ranges.back().end = range.end;
    } else {
      ranges.push_back(range);
    }
  }
  return ranges;
}

}  // namespace thermocline::worker
