#include "worker/firing_counter.h"

#include <algorithm>
#include <span>
#include <utility>

namespace thermocline::worker {
namespace {

// One step of so many is looked at. An active neuron's id and activation are 8 bytes, its rows
// thousands: far below 1 % of the step's bytes, whatever the density.
constexpr uint64_t kStepsPerLook = 8;
// What a plan may follow from changes over minutes.
constexpr Duration kReportInterval = std::chrono::seconds(5);
// Of one report: a megabyte where layers have 28 672 neurons.
constexpr size_t kLayersPerReport = 16;
// Fewer would say less than the message costs.
constexpr uint64_t kLeastTokens = 8;

}  // namespace

bool FiringCounter::IsDue(int layer_in_stage) const {
  return layers_[static_cast<size_t>(layer_in_stage)].n_seen % kStepsPerLook == 0;
}

// Another token each time: those of a batch are alike in age only.
int64_t FiringCounter::RowToSee(int layer_in_stage, int64_t n_rows) const {
  const Layer& layer = layers_[static_cast<size_t>(layer_in_stage)];
  return static_cast<int64_t>(layer.n_tokens % static_cast<uint64_t>(n_rows));
}

void FiringCounter::OnNeurons(int layer_in_stage, const kernels::ActiveIds& active, TensorView a) {
  const bool is_due = IsDue(layer_in_stage);
  Pass(layer_in_stage);
  if (!is_due) return;
  const float* const values = a.f32_row(RowToSee(layer_in_stage, a.n_rows));
  Count(layer_in_stage, active, {values, static_cast<size_t>(a.n_cols)});
}

void FiringCounter::Count(int layer_in_stage, const kernels::ActiveIds& active,
                          std::span<const float> values) {
  Layer& layer = layers_[static_cast<size_t>(layer_in_stage)];
  layer.counts.resize(values.size());
  for (int32_t i = 0; i < *active.n_active; ++i) {
    const int32_t id = active.ids[i];
    layer.counts[static_cast<size_t>(id)] += values[static_cast<size_t>(id)] != 0 ? 1 : 0;
  }
  ++layer.n_tokens;
}

Status FiringCounter::Report(Epoch epoch, TimePoint now,
                             const std::function<Status(const proto::Message&)>& send) {
  if (now - last_report_ < kReportInterval) return OkStatus();
  last_report_ = now;
  size_t n_told = 0;
  for (size_t i = 0; i < layers_.size() && n_told < kLayersPerReport; ++i) {
    const size_t layer = next_layer_;
    next_layer_ = (next_layer_ + 1) % layers_.size();
    if (layers_[layer].n_tokens < kLeastTokens) continue;
    TC_RETURN_IF_ERROR(send(Take(epoch, layer)));
    ++n_told;
  }
  return OkStatus();
}

proto::FiringCounts FiringCounter::Take(Epoch epoch, size_t layer) {
  Layer& counted = layers_[layer];
  proto::FiringCounts message{.epoch = epoch,
                              .layer = first_layer_ + static_cast<int>(layer),
                              .n_tokens = std::exchange(counted.n_tokens, 0)};
  const std::span<const int32_t> places = shard_.Places(message.layer);
  if (places.empty()) {
    message.counts = counted.counts;
  } else {
    for (size_t neuron = 0; neuron < places.size(); ++neuron) {
      if (places[neuron] == Shard::kNotHeld) continue;
      message.neurons.push_back(static_cast<int32_t>(neuron));
      message.counts.push_back(counted.counts[static_cast<size_t>(places[neuron])]);
    }
  }
  std::fill(counted.counts.begin(), counted.counts.end(), 0);
  return message;
}

}  // namespace thermocline::worker
