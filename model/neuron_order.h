// The order in which a layer's neurons lie in memory: the most often active first, so that the rows
// of a token lie near one another and a plan may cut between hot and cold ones.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/sparsity_profile.h"

namespace thermocline::model {

// The neuron table of every layer. Immutable.
struct NeuronOrder {
  // layers[l][place] = the neuron of the file that stands there; none, or no layers: the file's
  // order.
  std::vector<std::vector<int32_t>> layers;

  // Of one layer; empty for the file's order.
  std::span<const int32_t> Of(int layer) const {
    if (layers.empty()) return {};
    return layers[static_cast<size_t>(layer)];
  }
};

// Of the order in layers [begin, end), to tell two apart: 0 for the file's in all of them.
uint64_t ChecksumOf(const NeuronOrder& order, int begin, int end);

// By how often each fired in the profile, most first, ties in the file's order.
NeuronOrder HeatOrder(const SparsityProfile& profile);

// places[neuron] = where it stands.
std::vector<int32_t> PlacesOf(std::span<const int32_t> order);

}  // namespace thermocline::model
