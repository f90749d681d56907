// What ops have read from memory: counted beside the code that reads it, so that a benchmark can
// set it against the bandwidth of the machine.
#pragma once

#include <cstdint>
#include <span>

#include "base/tensor_view.h"
#include "kernels/operands.h"

namespace thermocline::kernels {

// Sums since the Ops object was made; the difference of two copies is what ran between them. Bytes
// are those of rows touched at least once in a call, each counted once: what must come from memory
// when nothing stays in a cache between two calls.
struct Traffic {
  uint64_t weight_bytes = 0;  // all weights, those of neurons included
  uint64_t neuron_bytes = 0;  // rows of single neurons: gathered, unless all are active
  uint64_t kv_bytes = 0;      // keys and values
  // Of the FFNs' down projections: neurons that could have been added, and those that were.
  uint64_t n_neurons = 0;
  uint64_t n_neurons_active = 0;
  // Of the predictors: neurons with a score, and those named. Where the predictor is wrong, or the
  // token's gate is 0, a named neuron is not added.
  uint64_t n_neurons_scored = 0;
  uint64_t n_neurons_named = 0;

  double density() const {
    return n_neurons == 0 ? 0
                          : static_cast<double>(n_neurons_active) / static_cast<double>(n_neurons);
  }
  // What the predictors named, 0 where none ran.
  double named_density() const {
    return n_neurons_scored == 0
               ? 0
               : static_cast<double>(n_neurons_named) / static_cast<double>(n_neurons_scored);
  }
  friend Traffic operator+(Traffic a, const Traffic& b) {
    a.weight_bytes += b.weight_bytes;
    a.neuron_bytes += b.neuron_bytes;
    a.kv_bytes += b.kv_bytes;
    a.n_neurons += b.n_neurons;
    a.n_neurons_active += b.n_neurons_active;
    a.n_neurons_scored += b.n_neurons_scored;
    a.n_neurons_named += b.n_neurons_named;
    return a;
  }
  friend Traffic operator-(Traffic a, const Traffic& b) {
    a.weight_bytes -= b.weight_bytes;
    a.neuron_bytes -= b.neuron_bytes;
    a.kv_bytes -= b.kv_bytes;
    a.n_neurons -= b.n_neurons;
    a.n_neurons_active -= b.n_neurons_active;
    a.n_neurons_scored -= b.n_neurons_scored;
    a.n_neurons_named -= b.n_neurons_named;
    return a;
  }
};

// Counts what each op reads, by the same views that the op gets.
class TrafficCounter {
 public:
  const Traffic& sums() const { return sums_; }
  // What another counter has counted, instead.
  void Take(const Traffic& sums) { sums_ = sums; }

  void CountWeights(const TensorView& w, int64_t n_rows) {
    sums_.weight_bytes += BytesOfRows(w, n_rows);
  }
  // Rows of gate and of up: up is not read where the gate is 0.
  void CountNeurons(const NeuronWeights& weights, int64_t n_gate_rows, int64_t n_up_rows) {
    const uint64_t bytes =
        BytesOfRows(weights.gate, n_gate_rows) + BytesOfRows(weights.up, n_up_rows);
    sums_.weight_bytes += bytes;
    sums_.neuron_bytes += bytes;
  }
  void CountAxpyRows(const TensorView& w, ActiveIds active) {
    const int64_t n_rows = active.count(w.n_rows);
    sums_.weight_bytes += BytesOfRows(w, n_rows);
    sums_.neuron_bytes += BytesOfRows(w, n_rows);
    sums_.n_neurons += static_cast<uint64_t>(w.n_rows);
    sums_.n_neurons_active += static_cast<uint64_t>(n_rows);
  }
  void CountNamed(const TensorView& scores, ActiveIds named) {
    sums_.n_neurons_scored += static_cast<uint64_t>(scores.n_cols);
    sums_.n_neurons_named += static_cast<uint64_t>(named.count(scores.n_cols));
  }
  // The parts of the above for devices whose counts the host learns later: neurons that could be
  // added or were scored, at once; and what was gathered, added and named since the last call.
  void CountNeuronsThere(const TensorView& w) {
    sums_.n_neurons += static_cast<uint64_t>(w.n_rows);
  }
  void CountScored(const TensorView& scores) {
    sums_.n_neurons_scored += static_cast<uint64_t>(scores.n_cols);
  }
  void CountGathered(uint64_t neuron_bytes, uint64_t n_active, uint64_t n_named) {
    sums_.weight_bytes += neuron_bytes;
    sums_.neuron_bytes += neuron_bytes;
    sums_.n_neurons_active += n_active;
    sums_.n_neurons_named += n_named;
  }
  void CountAttention(std::span<const SequenceRows> sequences, const KvPages& pages) {
    for (const SequenceRows& rows : sequences) {
      const auto n = static_cast<uint64_t>(rows.first_position + rows.n_tokens);
      const auto n_elems = n * static_cast<uint64_t>(pages.n_head_kv * pages.head_dim);
      sums_.kv_bytes += 2 * RowBytes(pages.dtype, n_elems);
    }
  }

 private:
  static uint64_t BytesOfRows(const TensorView& w, int64_t n_rows) {
    return static_cast<uint64_t>(n_rows) * RowBytes(w.dtype, static_cast<uint64_t>(w.n_cols));
  }
  Traffic sums_;
};

}  // namespace thermocline::kernels
