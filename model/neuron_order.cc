#include "model/neuron_order.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/hash.h"

namespace thermocline::model {

uint64_t ChecksumOf(const NeuronOrder& order, int begin, int end) {
  std::vector<uint64_t> layers;
  bool is_files = true;
  for (int layer = begin; layer < end; ++layer) {
    const std::span<const int32_t> neurons = order.Of(layer);
    is_files = is_files && neurons.empty();
    layers.push_back(Checksum64(std::as_bytes(neurons)));
  }
  return is_files ? 0 : Checksum64(std::as_bytes(std::span(layers)));
}

NeuronOrder HeatOrder(const SparsityProfile& profile) {
  NeuronOrder order;
  for (const LayerActivity& layer : profile.layers) {
    std::vector<int32_t>& ids = order.layers.emplace_back(layer.fired.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
      return layer.fired[static_cast<size_t>(a)] > layer.fired[static_cast<size_t>(b)];
    });
  }
  return order;
}

std::vector<int32_t> PlacesOf(std::span<const int32_t> order) {
  std::vector<int32_t> places(order.size());
  for (size_t place = 0; place < order.size(); ++place) {
    places[static_cast<size_t>(order[place])] = static_cast<int32_t>(place);
  }
  return places;
}

}  // namespace thermocline::model
