// What each part of a model weighs, derived from the weight index alone.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/weights.h"

namespace thermocline::placement {

// Bytes of contiguous ranges of layers, by prefix sums. Immutable.
class ModelBytes {
 public:
  // `layers`: bytes of each; the other fields of the whole model.
  struct Parts {
    std::vector<uint64_t> layers;
    std::vector<uint64_t> relay;       // what re-laying adds per layer; empty = nothing
    std::vector<uint64_t> predictors;  // per layer; empty = none are held
    uint64_t shared = 0;               // every stage holds it (rope factors)
    uint64_t embed = 0;                // the first stage holds it
    uint64_t head = 0;                 // the last stage holds it
    uint64_t both_ends = 0;            // a single stage holds this instead of embed + head (tied)
  };
  explicit ModelBytes(const Parts& parts);
  // Counts what `ffn` adds in memory: ffn_down as neuron rows, and predictors.
  static ModelBytes Of(const model::ModelConfig& config, const model::WeightIndex& weights,
                       model::FfnModes ffn);

  int n_layer() const { return static_cast<int>(layers_.size()) - 1; }
  // Of the file, held by a stage of `layers`.
  uint64_t Weights(const model::LayerRange& layers) const;
  // What re-laying adds to them in memory.
  uint64_t Relay(const model::LayerRange& layers) const;
  uint64_t Predictors(const model::LayerRange& layers) const;
  // What one token reads of them: everything but the embedding, unless the head shares it.
  uint64_t Streamed(const model::LayerRange& layers) const;

 private:
  std::vector<uint64_t> layers_, relay_, predictors_;  // prefix sums
  uint64_t shared_, embed_, head_, both_ends_;
};

}  // namespace thermocline::placement
