// What the ops of a graph read and compute in one step: bytes and FLOPs as functions of the neurons
// that a worker holds. The graph is the one that workers lower, so a new op is counted here or the
// build of this file's switch fails.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "model/config.h"
#include "model/graph.h"
#include "model/weights.h"

namespace thermocline::placement {

// A step of equal sequences: each adds `n_tokens` to `n_context` that it has stored.
struct StepShape {
  int64_t n_sequences = 1;
  int64_t n_tokens = 1;
  int64_t n_context = 0;
  DType kv_dtype = DType::kF32;

  int64_t n_rows() const { return n_sequences * n_tokens; }
  friend bool operator==(const StepShape&, const StepShape&) = default;
};

// Neurons of one layer, as sums over them.
struct NeuronShare {
  double n = 0;         // neurons held
  double selected = 0;  // those that the step looks at where a predictor names them
  double active = 0;    // those whose activation is not 0 for at least one token
  double uses = 0;      // (token, neuron) pairs that are active

  static NeuronShare All(int64_t n_ff, int64_t n_rows) {
    const auto count = static_cast<double>(n_ff);
    return {count, count, count, count * static_cast<double>(n_rows)};
  }
  NeuronShare& operator+=(const NeuronShare& other);
};

// Linear in the neurons held.
struct OpLoad {
  model::OpKind kind = model::OpKind::kNorm;
  model::WeightRole role = model::WeightRole::kTokenEmbd;  // of the first weight, if it has one
  DType dtype = DType::kF32;                               // of its weights in memory
  double bytes = 0, flops = 0;                             // whatever neurons are held
  double bytes_per_neuron = 0, flops_per_neuron = 0;
  double bytes_per_selected = 0;
  double bytes_per_active = 0;
  double flops_per_use = 0;
  // Of its bytes, what they are on a worker that holds neuron rows in 8 bits; 1: its weights are
  // the same there.
  double narrow_share = 1;

  double Bytes(const NeuronShare& share) const {
    return bytes + bytes_per_neuron * share.n + bytes_per_selected * share.selected +
           bytes_per_active * share.active;
  }
  double Flops(const NeuronShare& share) const {
    return flops + flops_per_neuron * share.n + flops_per_use * share.uses;
  }
  // Whether rows are read here and there rather than one after the other.
  bool gathers() const { return bytes_per_selected > 0 || bytes_per_active > 0; }
};

// Of all ops, in the graph's order. Bytes are those of weight matrices, embedding rows, keys and
// values, as workers count them (kernels/traffic.h); FLOPs those of products. A weight counts in
// the type it has in a worker's memory.
std::vector<OpLoad> LoadsOf(const model::Graph& graph, const model::ModelConfig& config,
                            const model::WeightIndex& weights, const StepShape& step);

}  // namespace thermocline::placement
