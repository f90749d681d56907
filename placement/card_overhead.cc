// The overhead of members whose stage lies in the memory of a card. What is the same for all stages
// (CUDA, scratch of the ops, room for uploads) is taken before a worker offers the rest.
#include <algorithm>

#include "base/units.h"
#include "placement/card_way.h"
#include "placement/overhead.h"

namespace thermocline::placement {
namespace {

// Of each matrix in the region of weights: 64 bytes that wide loads may read behind it, and what
// its begin is rounded up by, to 256 (WeightMemory::TakenBytes).
constexpr uint64_t kPerWeightBytes = 64 + 255;
// Regions begin at 256 bytes: weights, KV, scratch, the head's scratch, its best logits, lists.
constexpr uint64_t kRegionsBytes = 6 * 255;
// 64 pairs of a logit and a token, of which the host takes a few (kernels::kMaxBest).
constexpr uint64_t kBestBytes = 64 * 2 * sizeof(float);
// What steps that are replayed read, beside pages: of 64 rows (kernels/cuda/step_places.h).
constexpr uint64_t kPlacesBytes = 32 << 10;
constexpr uint64_t kPageIdBytes = sizeof(int32_t);
// Lists on their way lie in a ring of 8 segments, each a multiple of half a MiB and that much
// longer than the longest list; with segments of 1 MiB it is there before
// (kernels/cuda/upload_ring.h).
constexpr uint64_t kSegments = 8, kSegmentUnit = 512 << 10, kLeastSegment = 1 << 20;
// The other list that grows: of tiles, 16 for each row.
constexpr uint64_t kTilesPerRowBytes = 16 * 16;

}  // namespace

Holder HolderOf(const WorkerProfile& worker) {
  return CardOf(worker) == nullptr ? Holder::kProcess : Holder::kCard;
}

void OverheadModel::CountWeights() {
  const auto count = [&](int layer) {
    const model::LayerRange one = {layer, layer + 1, false, false};
    return weights_.KeysOf(one).size() + weights_.PredictorKeysOf(one).size();
  };
  for (int layer = 0; layer < config_.n_layer; ++layer) {
    most_weights_ = std::max<uint64_t>(most_weights_, count(layer));
  }
  end_weights_ = weights_.KeysOf({0, 0, true, true}).size();
}

uint64_t OverheadModel::OfLists() const {
  const uint64_t places = kPlacesBytes + most_pages_ * kPageIdBytes;
  const uint64_t longest = std::max(places, n_rows_ * kTilesPerRowBytes);
  const uint64_t segment = RoundUp(longest + kSegmentUnit, kSegmentUnit);
  return places + kSegments * (std::max(segment, kLeastSegment) - kLeastSegment);
}

uint64_t OverheadModel::SumOfCard(const Scratch& scratch, const model::LayerRange& layers) const {
  const auto row_bytes = [](int64_t n_cols) {
    return static_cast<uint64_t>(n_cols) * sizeof(float);
  };
  int64_t n_cols = std::max<int64_t>(scratch.n_cols, config_.n_embd);
  if (layers.has_embed) n_cols = std::max(n_cols, embed_.n_cols);
  const auto n_layers = static_cast<uint64_t>(layers.end - layers.begin);
  const uint64_t sum = n_rows_ * row_bytes(n_cols) + OfLists() + kCardHopBytes + kRegionsBytes +
                       (n_layers * most_weights_ + end_weights_) * kPerWeightBytes;
  if (!layers.has_head) return sum;
  return sum + kLogitsBlockRows * (row_bytes(head_.n_cols) + kBestBytes);
}

}  // namespace thermocline::placement
