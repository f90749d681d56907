#include "worker/firing_looks.h"

#include <algorithm>
#include <utility>

namespace thermocline::worker {
namespace {

// Every layer of a step is due at about the same time; these take turns.
constexpr size_t kLooks = 8;

uint64_t ListBytes(int32_t capacity) {
  return sizeof(int32_t) * (static_cast<uint64_t>(capacity) + 1);
}

}  // namespace

void FiringLooks::OnNeurons(FiringCounter* counter, int layer_in_stage,
                            const kernels::ActiveIds& active, TensorView a) {
  CountWhatHasCome(counter);
  if (!counter->IsDue(layer_in_stage)) return counter->Pass(layer_in_stage);
  const uint64_t list_bytes = ListBytes(active.capacity);
  const uint64_t row_bytes = sizeof(float) * static_cast<uint64_t>(a.n_cols);
  Look* const look = FreeLook(list_bytes + row_bytes);
  if (look == nullptr) return;
  const TensorView row = a.Rows(counter->RowToSee(layer_in_stage, a.n_rows), 1);
  counter->Pass(layer_in_stage);
  // Of a device that is lost nothing comes; then nothing is counted.
  *reinterpret_cast<int32_t*>(look->memory.data()) = 0;
  device_.CopyToHost(reinterpret_cast<const std::byte*>(active.n_active), look->memory.data(),
                     list_bytes);
  device_.CopyToHost(row.data, look->memory.data() + list_bytes, row_bytes);
  look->is_under_way = true;
  ++n_under_way_;
  look->mark = device_.Mark();
  look->layer_in_stage = layer_in_stage;
  look->capacity = active.capacity;
  look->n_values = static_cast<size_t>(a.n_cols);
}

void FiringLooks::CountWhatHasCome(FiringCounter* counter) {
  if (n_under_way_ == 0) return;
  for (Look& look : looks_) {
    if (!look.is_under_way || !device_.IsDone(look.mark)) continue;
    Count(look, counter);
    look.is_under_way = false;
    --n_under_way_;
  }
}

void FiringLooks::Reserve(int64_t n_neurons) {
  const uint64_t n_bytes =
      ListBytes(static_cast<int32_t>(n_neurons)) + sizeof(float) * static_cast<uint64_t>(n_neurons);
  looks_.resize(kLooks);
  for (Look& look : looks_) {
    if (look.is_under_way || look.memory.size() >= n_bytes) continue;
    auto memory = device_.AllocateHost(n_bytes);
    if (!memory.ok()) return;
    look.memory = *std::move(memory);
  }
}

// Of one that was reserved: a step waits for no allocation.
FiringLooks::Look* FiringLooks::FreeLook(uint64_t n_bytes) {
  const auto is_free = [&](const Look& look) {
    return !look.is_under_way && look.memory.size() >= n_bytes;
  };
  const auto free = std::find_if(looks_.begin(), looks_.end(), is_free);
  return free == looks_.end() ? nullptr : &*free;
}

void FiringLooks::Count(const Look& look, FiringCounter* counter) {
  auto* const words = reinterpret_cast<int32_t*>(look.memory.data());
  const auto* const values =
      reinterpret_cast<const float*>(look.memory.data() + ListBytes(look.capacity));
  counter->Count(look.layer_in_stage, {words + 1, words, look.capacity}, {values, look.n_values});
}

}  // namespace thermocline::worker
