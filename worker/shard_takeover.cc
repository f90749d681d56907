// What a shard takes over from the one of the plan before: matrices where they lie, rows by copy.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "worker/held_weights.h"
#include "worker/shard.h"

namespace thermocline::worker {
namespace {

using model::WeightKey;

bool IsFileOrder(std::span<const int32_t> places) {
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i] != static_cast<int32_t>(i)) return false;
  }
  return true;
}

// Matrices as the host may touch them: copies where the device has memory of its own.
struct HostImage {
  TensorView from, to;
  Buffer memory;

  static Result<HostImage> Of(TensorView from, TensorView to, kernels::Device& device) {
    HostImage image{from, to, {}};
    if (device.reads_host_memory()) return image;
    TC_ASSIGN_OR_RETURN(image.memory, Buffer::Allocate(from.bytes() + to.bytes()));
    image.from.data = image.memory.data();
    image.to.data = image.memory.data() + from.bytes();
    device.CopyToHost(from.data, image.from.data, from.bytes());
    TC_RETURN_IF_ERROR(device.Synchronize());
    return image;
  }
  Status Upload(TensorView target, kernels::Device& device) const {
    if (device.reads_host_memory()) return OkStatus();
    device.CopyToDevice(to.data, target.data, target.bytes());
    return device.Synchronize();
  }
};

}  // namespace

Result<TensorView> Shard::Allocate(const WeightKey& key, const Shape& shape,
                                   kernels::Device& device) {
  TensorView view = TensorView::Dense(nullptr, shape.dtype, shape.n_rows, shape.n_cols);
  TC_ASSIGN_OR_RETURN(view.data, memory_.Allocate(view.bytes(), device));
  view.layout = device.PreferredLayout(shape.dtype);
  views_[key] = view;
  return view;
}

Result<Shard::Target> Shard::Prepare(const WeightKey& key, const Shape& shape,
                                     kernels::Device& device) {
  const std::span<const int32_t> places = PlacesFor(key);
  Target target;
  target.places.assign(places.begin(), places.end());
  const TensorView prior = prior_ == nullptr ? TensorView{} : prior_->View(key);
  const bool is_here = memory_.Holds(prior);
  const bool is_alike =
      is_here && prior.dtype == shape.dtype && prior.layout == device.PreferredLayout(shape.dtype);
  const bool stands = is_alike && StandsAs(*prior_, key);
  if (stands && prior.n_rows == shape.n_rows && prior.n_cols == shape.n_cols) {
    target.view = views_[key] = prior;
    target.is_complete = true;
    report_.kept_bytes += prior.bytes();
    prior_->views_.erase(key);
    return target;
  }
  TC_ASSIGN_OR_RETURN(target.view, Allocate(key, shape, device));
  if (!is_here) return target;
  if (is_alike && !stands && !shape.is_vector && prior.n_cols == shape.n_cols) {
    TC_RETURN_IF_ERROR(TakeRows(key, prior, device, &target));
  }
  memory_.GiveBack(prior);
  prior_->views_.erase(key);
  return target;
}

Status Shard::TakeRows(const WeightKey& key, const TensorView& prior, kernels::Device& device,
                       Target* target) {
  const std::span<const int32_t> there = prior_->PlacesFor(key);
  if (target->places.empty()) {
    target->places.resize(there.size());  // not empty, or the neurons would stand alike
    std::iota(target->places.begin(), target->places.end(), 0);
  }
  const auto n_bytes = static_cast<size_t>(prior.row_stride_bytes);
  TC_ASSIGN_OR_RETURN(const HostImage rows, HostImage::Of(prior, target->view, device));
  target->is_complete = true;
  for (size_t neuron = 0; neuron < target->places.size(); ++neuron) {
    int32_t& place = target->places[neuron];
    if (place == kNotHeld) continue;
    const int32_t from = there.empty() ? static_cast<int32_t>(neuron) : there[neuron];
    if (from == kNotHeld) {
      target->is_complete = false;
      continue;
    }
    std::memcpy(rows.to.row(place), rows.from.row(from), n_bytes);
    report_.kept_bytes += n_bytes;
    place = kNotHeld;  // nothing is missing there any more
  }
  return rows.Upload(target->view, device);
}

bool Shard::StandsAs(const Shard& prior, const WeightKey& key) const {
  const auto here = PlacesFor(key), there = prior.PlacesFor(key);
  if (here.empty() || there.empty()) return IsFileOrder(here.empty() ? there : here);
  return std::equal(here.begin(), here.end(), there.begin(), there.end());
}

void Shard::SortByGrowth(std::vector<WeightKey>* keys, const model::WeightIndex& weights,
                         const FfnPlan& ffn) const {
  if (prior_ == nullptr) return;
  const auto growth = [&](const WeightKey& key) {
    const WeightKey held = KeyInMemory(key, ffn);
    const TensorView prior = prior_->View(held);
    if (prior.empty()) return 2;
    if (!model::IsPerNeuron(key.role) && !model::IsPerHead(key.role)) return 0;
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    const int64_t n_all = held == key ? info.n_rows() : info.n_cols();
    return HeldOf(held, n_all) > prior.n_rows ? 1 : 0;
  };
  std::stable_sort(keys->begin(), keys->end(),
                   [&](const WeightKey& a, const WeightKey& b) { return growth(a) < growth(b); });
}

void Shard::DropAllBut(const std::vector<WeightKey>& wanted, Shard* prior) {
  const std::set<WeightKey> kept(wanted.begin(), wanted.end());
  std::erase_if(prior->views_, [&](const auto& entry) {
    if (kept.contains(entry.first)) return false;
    if (memory_.Holds(entry.second)) memory_.GiveBack(entry.second);
    return true;
  });
}

std::span<const int32_t> Shard::Places(int layer) const {
  const auto found = places_.find(layer);
  return found == places_.end() ? std::span<const int32_t>() : found->second;
}

}  // namespace thermocline::worker
