// What each part of a model weighs, derived from the weight index alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/neuron_rows.h"
#include "model/weights.h"

namespace thermocline::placement {

using model::HeadRange;
using model::NeuronRange;
using model::NeuronRows;

// What one member of a stage holds.
struct PartBytes {
  uint64_t weights = 0;     // of the file, own ranges only
  uint64_t relay = 0;       // more than that in memory: ffn_down re-laid as neuron rows
  uint64_t predictors = 0;  // as held in memory, whichever file they come from (model::HeldAs)
  uint64_t saved = 0;       // less than all that in memory: neuron rows in 8 bits (model::HeldIn)
  uint64_t sum() const {
    const uint64_t as_is = weights + relay + predictors;
    return as_is - std::min(as_is, saved);
  }
  PartBytes& operator+=(const PartBytes& other);
  friend bool operator==(const PartBytes&, const PartBytes&) = default;
};

// Bytes of contiguous ranges of layers, by prefix sums. Immutable.
class ModelBytes {
 public:
  // `layers`: bytes of each; the other fields of the whole model.
  struct Parts {
    std::vector<uint64_t> layers;
    std::vector<uint64_t> relay;       // what re-laying adds per layer; empty = nothing
    std::vector<uint64_t> predictors;  // per layer; empty = none are held
    std::vector<uint64_t> saved;       // per layer, by rows in 8 bits; empty = nothing
    uint64_t shared = 0;               // every stage holds it (rope factors)
    uint64_t embed = 0;                // the first stage holds it
    uint64_t head = 0;                 // the last stage holds it
    uint64_t both_ends = 0;            // a single stage holds this instead of embed + head (tied)
    int64_t n_ff = 1;
    // Of `layers` and of what re-laying adds, what belongs to the neurons: rows of gate, up and
    // down with their biases, and of the predictor's output; and what a helper holds whatever its
    // neurons. By layer; empty: stages cannot be split. `saved` of neurons is what a worker with
    // rows in 8 bits saves where they lie as rows.
    std::vector<PartBytes> neurons, helper;
    // Of `layers`, what belongs to the heads: rows of query, key and value with their biases; and
    // what a helper holds whatever its heads, in each layer. By layer.
    std::vector<uint64_t> heads, heads_helper;
    uint64_t heads_shared = 0;  // held once by a helper with heads (rope factors)
    int n_head_kv = 1;
  };
  explicit ModelBytes(const Parts& parts);
  // Counts what `ffn` adds in memory: ffn_down as neuron rows, and predictors.
  static ModelBytes Of(const model::ModelConfig& config, const model::WeightIndex& weights,
                       model::FfnModes ffn);

  int64_t n_ff() const { return n_ff_; }
  int n_layer() const { return static_cast<int>(layers_.size()) - 1; }
  // Of the file, held by a stage of `layers`.
  uint64_t Weights(const model::LayerRange& layers) const;
  // What re-laying adds to them in memory.
  uint64_t Relay(const model::LayerRange& layers) const;
  uint64_t Predictors(const model::LayerRange& layers) const;
  // Of a lead that shares nothing.
  PartBytes WholePart(const model::LayerRange& layers, NeuronRows rows = NeuronRows::kAsIs) const;
  // Of a lead that shares its neurons: those of `neurons`, by layer of the range, of its heads
  // `heads` (empty: all), and all the rest.
  PartBytes LeadPart(const model::LayerRange& layers, std::span<const NeuronRange> neurons,
                     NeuronRows rows = NeuronRows::kAsIs, const HeadRange& heads = {}) const;
  // Of a helper: `neurons`, and per layer where it has any what computing them takes besides; of
  // its `heads` the same.
  PartBytes HelperPart(const model::LayerRange& layers, std::span<const NeuronRange> neurons,
                       NeuronRows rows = NeuronRows::kAsIs, const HeadRange& heads = {}) const;
  // Rows of `heads` in one layer; of all of them they add up to the layer's.
  uint64_t Heads(int layer, const HeadRange& heads) const;
  // Of neurons of one layer. Ranges that follow one another add up to the whole layer's bytes.
  PartBytes Neurons(int layer, const NeuronRange& range, NeuronRows rows = NeuronRows::kAsIs) const;
  // What neurons take on a worker with such rows, of what they take as they are, where members
  // share a layer or a lead has it alone: the least and the largest share of the layers, of which
  // there is one or more.
  enum class Form : uint8_t { kShared, kAlone };
  struct Shares {
    double least = 1, most = 1;
    friend bool operator==(const Shares&, const Shares&) = default;
  };
  Shares HeldShares(NeuronRows rows, const model::LayerRange& layers, Form form) const;
  // What one token reads of them: everything but the embedding, unless the head shares it.
  uint64_t Streamed(const model::LayerRange& layers) const;

 private:
  std::vector<uint64_t> layers_, relay_, predictors_, saved_;  // prefix sums
  uint64_t shared_, embed_, head_, both_ends_;
  int64_t n_ff_;
  std::vector<PartBytes> neurons_, helper_;     // by layer
  std::vector<uint64_t> heads_, heads_helper_;  // the same
  uint64_t heads_shared_;
  int n_head_kv_;
};

}  // namespace thermocline::placement
