#include "placement/enough_memory.h"

#include "base/units.h"

namespace thermocline::placement {
namespace {

class Stages {
 public:
  Stages(const ModelBytes& model, const OverheadModel& overhead, uint64_t kv_layer_bytes)
      : model_(model), overhead_(overhead), kv_layer_bytes_(kv_layer_bytes) {}

  uint64_t BytesOf(int begin, int end) const {
    const model::LayerRange layers = {begin, end, begin == 0, end == model_.n_layer()};
    return model_.Weights(layers) + model_.Relay(layers) + model_.Predictors(layers) +
           overhead_.MostOfLead(layers, 0, Holder::kProcess) +
           kv_layer_bytes_ * static_cast<uint64_t>(end - begin);
  }

  // Each stage takes as many layers as it can hold, which leaves the fewest to the next ones.
  bool FitOn(uint64_t memory_bytes, size_t n_workers) const {
    int begin = 0;
    for (size_t worker = 0; worker < n_workers && begin < model_.n_layer(); ++worker) {
      int end = model_.n_layer();
      while (end > begin && BytesOf(begin, end) > memory_bytes) --end;
      if (end == begin) return false;
      begin = end;
    }
    return begin == model_.n_layer();
  }

 private:
  const ModelBytes& model_;
  const OverheadModel& overhead_;
  const uint64_t kv_layer_bytes_;
};

// By bisection, in MiB.
uint64_t Least(uint64_t too_little, uint64_t enough,
               const std::function<bool(uint64_t memory_bytes)>& fits) {
  while (enough - too_little > 1) {
    const uint64_t middle = too_little + (enough - too_little) / 2;
    (fits(middle * kMiB) ? enough : too_little) = middle;
  }
  return enough;
}

}  // namespace

uint64_t EnoughMebibytes(const ModelBytes& model, const OverheadModel& overhead,
                         uint64_t kv_layer_bytes, size_t n_workers, SomeRows rows,
                         const std::function<bool(uint64_t memory_bytes)>& fits) {
  const Stages stages(model, overhead, kv_layer_bytes);
  const uint64_t all_on_one = (stages.BytesOf(0, model.n_layer()) + kMiB - 1) / kMiB;
  const uint64_t least = Least(
      0, all_on_one, [&](uint64_t memory_bytes) { return stages.FitOn(memory_bytes, n_workers); });
  if (!fits(least * kMiB)) return Least(least, all_on_one, fits);
  return rows == SomeRows::kAsIs ? least : Least(0, least, fits);
}

}  // namespace thermocline::placement
