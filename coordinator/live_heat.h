// How often each neuron fires now, from what workers count while they serve.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/neuron_order.h"
#include "placement/neuron_heat.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// Rates in the file's order that forget exponentially. No I/O, no clock, no thread. Engine thread
// only.
class LiveHeat {
 public:
  LiveHeat(int n_layer, int64_t n_ff);

  // kDataLoss for counts of another model.
  Status Add(const proto::FiringCounts& counts);
  // Whether enough tokens were looked at to plan by, for every neuron of the layer.
  bool Knows(int layer) const;
  // Of any layer.
  bool KnowsAny() const;
  // Tokens looked at in the best known layer, since the start.
  uint64_t n_tokens() const { return n_tokens_; }

  // Neurons of a known layer, the hottest first; as hot ones stay in the order they are in.
  std::vector<int32_t> OrderOf(int layer, std::span<const int32_t> order) const;
  // Known layers as they are in `order`, the others as in `otherwise`.
  std::vector<placement::NeuronHeat> HeatsIn(
      const model::NeuronOrder& order, const std::vector<placement::NeuronHeat>& otherwise) const;
  // How far the known layers are from what a plan was made for: half the sum of the differences of
  // rates over the sum of rates, 0 (the same) to 1 (other neurons); 0 when none is known.
  double DriftFrom(const model::NeuronOrder& order,
                   const std::vector<placement::NeuronHeat>& planned) const;

 private:
  struct Layer {
    std::vector<float> rates;
    std::vector<float> n_seen;  // tokens, forgotten ones too, up to kMemoryTokens
  };
  double RateAt(int layer, std::span<const int32_t> order, size_t place) const;

  const int64_t n_ff_;
  std::vector<Layer> layers_;
  uint64_t n_tokens_ = 0;
};

}  // namespace thermocline::coordinator
