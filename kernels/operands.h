// What ops take besides tensors: positions and pages of sequences, lists of neurons, rope's angles.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "base/tensor_view.h"

namespace thermocline::kernels {

enum class RopePairing : uint8_t { kAdjacent, kHalves };
enum class Activation : uint8_t { kSilu, kRelu, kReluSquared };

// Of SelectBest: enough for the top-k that people ask for, 40 or 50, and some ids that are banned.
inline constexpr int kMaxBest = 64;

struct RopeArgs {
  RopePairing pairing = RopePairing::kAdjacent;
  int n_rot = 0;  // rotated elements at the start of each head, even
  float freq_base = 10000.0f;
  float freq_scale = 1.0f;  // positions are multiplied by it
  // [n_rot/2] or empty: each angle is divided by it. In host memory, whatever the device.
  std::span<const float> freq_divisors;
};

// The KV pages of one layer. A page holds `page_tokens` consecutive positions of one sequence:
// k[page][head_kv][token][head_dim], the same for v. dtype is F32 or F16.
struct KvPages {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  DType dtype = DType::kF32;
  int page_tokens = 0;
  int n_head_kv = 0;
  int head_dim = 0;
  uint64_t page_bytes() const {
    return RowBytes(dtype, static_cast<uint64_t>(page_tokens) * n_head_kv * head_dim);
  }
  // Bytes from `k` (or `v`) to the head_dim values of one head at `position` of a sequence; those
  // of the next position in the same page follow at once.
  uint64_t offset_bytes(std::span<const int32_t> page_ids, int64_t position, int head) const {
    const auto page = static_cast<uint64_t>(page_ids[static_cast<size_t>(position / page_tokens)]);
    const uint64_t slot = static_cast<uint64_t>(head) * page_tokens + position % page_tokens;
    return page * page_bytes() + RowBytes(dtype, slot * head_dim);
  }
};

// One sequence's share of a batch: rows [first_row, first_row + n_tokens) of x hold its positions
// [first_position, first_position + n_tokens).
struct SequenceRows {
  int first_row = 0;
  int n_tokens = 0;
  int64_t first_position = 0;
  std::span<const int32_t> page_ids;  // covers positions 0 .. first_position + n_tokens - 1
};

// The neurons an FFN computes: ids[0 .. *n_active), ascending and distinct; `ids` null means every
// neuron. SelectActive writes a list, so it takes one with room for n_ff ids.
struct ActiveIds {
  int32_t* ids = nullptr;
  int32_t* n_active = nullptr;
  int32_t capacity = 0;

  // Every neuron: the dense FFN.
  static constexpr ActiveIds All() { return {}; }
  bool all() const { return ids == nullptr; }
  int64_t count(int64_t n_ff) const { return all() ? n_ff : *n_active; }
  int64_t id(int64_t i) const { return all() ? i : ids[i]; }
};

// Neurons whose products are added in F32; their sums are added in F64. Neurons are cut into these
// chunks by their place, so a matrix that holds some of a layer's, the first of them at a multiple
// of it, has whole chunks of the layer's (docs/adr/0021). Larger ones would need fewer additions in
// F64, one for each chunk with an active neuron, but plans cut no finer than a chunk.
inline constexpr int64_t kSumChunk = 64;

// Sums of neuron rows before they are rounded: [n_rows, n_cols] F64, dense, in memory aligned as
// activations are. Borrowed.
//
// What is added there are sums of chunks, which are F32. As long as their exponents differ by no
// more than 29 - log2(number of chunks), adding them in F64 is exact, so that neither their order
// nor who adds which matters. Parts of smaller ones are rounded off at 2^-53 of the sum, which one
// rounding to F32 at the end hides unless the sum lies that close to the border between two floats.
struct SumsView {
  double* data = nullptr;
  int64_t n_rows = 0;
  int64_t n_cols = 0;

  bool empty() const { return data == nullptr; }
  double* row(int64_t i) const { return data + i * n_cols; }
  SumsView Rows(int64_t begin, int64_t n) const { return {row(begin), n, n_cols}; }
  uint64_t bytes() const { return static_cast<uint64_t>(n_rows * n_cols) * sizeof(double); }
};

// The rows of one neuron: those of gate and up, [n_ff, n_embd]. Biases are [1, n_ff] F32 or empty.
struct NeuronWeights {
  TensorView gate;  // empty when the FFN has no gate
  TensorView gate_bias;
  TensorView up;
  TensorView up_bias;
  bool activates_up = false;  // up passes the activation too (dReLU)
};

// Which tokens need an active neuron. At most one of the two views is given; none: all tokens do.
struct NeuronNeeds {
  // [n_tokens, n_ff]: act(gate . x), already computed; needed where it is not 0, and not computed
  // again.
  TensorView activations;
  // [n_tokens, n_ff]: needed where the predictor's score reaches the threshold.
  TensorView scores;
  float threshold = 0;

  bool Needs(int64_t t, int64_t i) const {
    if (!activations.empty()) return activations.f32_row(t)[i] != 0.0f;
    return scores.empty() || scores.f32_row(t)[i] >= threshold;
  }
};

}  // namespace thermocline::kernels
