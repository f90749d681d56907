// The kernels' launchers: what an op calls to enqueue them. Compiled twice from the same .cuh
// files: by nvcc for GPUs, by the host's compiler for the emulator.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor_view.h"
#include "kernels/operands.h"

namespace thermocline::kernels::cuda {

// What only the device knows of its traffic (kernels/traffic.h), counted in its memory.
struct TrafficSums {
  uint64_t neuron_bytes = 0;
  uint64_t n_active = 0;
  uint64_t n_named = 0;
};

// Rows of activations rounded to 8 bits, for products with packed weights; see elementwise.cuh.
struct ByteRows {
  std::byte* data = nullptr;
  int64_t row_bytes = 0;
};

// One matrix of neurons times the tokens: out[t, i] = finish(w_i . x[t] + bias_i) for the listed
// rows i and the tokens that need them, 0 for other tokens. A plain product lists all and finishes
// nothing.
struct RowDotsJob {
  TensorView w, bias;
  TensorView x;      // F32, for float weights and FP8
  ByteRows x_bytes;  // for other packed weights
  ActiveIds active;
  NeuronNeeds needs;  // with activations: their value times the product
  Activation kind = Activation::kRelu;
  bool is_activated = false;  // finish applies the activation
  TensorView out;
  uint64_t row_bytes = 0;  // counted for every row that one of the first tokens needs
  TrafficSums* sums = nullptr;
};

// Sums of neuron rows: slices of the neurons to `partials`, which a second kernel adds and gives,
// rounded with the bias, to y, or as they are to `unrounded`, where that is given.
struct AxpyJob {
  TensorView w, a, bias, y;
  SumsView unrounded;
  ActiveIds active;
  int n_slices = 1;
  double* partials = nullptr;  // [n_slices, n_tokens, n_cols]
  uint64_t row_bytes = 0;      // counted for every row that one of the first tokens adds
  TrafficSums* sums = nullptr;
};

// Compaction: column i is listed when a[t, i] != 0, or reaches the threshold, for some t.
struct SelectJob {
  TensorView a;
  bool by_threshold = false;
  float threshold = 0;
  ActiveIds active;
  uint32_t* marks = nullptr;  // [ceil(n_cols / kSelectCols) * kSelectCols / 32]
  int32_t* counts = nullptr;  // [ceil(n_cols / kSelectCols)]
  TrafficSums* sums = nullptr;
};
inline constexpr int kSelectCols = 256;

// The k best of each row, by passes over blocks of kBestKeys keys.
struct BestJob {
  TensorView logits;
  int32_t k = 1;
  TensorView best;
  uint64_t* keys = nullptr;  // [best.n_rows, BestKeysOfRow]
};
inline constexpr int kBestKeys = 1024;
static_assert(kMaxBest < kBestKeys / 2, "each pass leaves fewer keys");
// What all passes but the last leave of a row.
inline int64_t BestKeysOfRow(int64_t n_cols, int k) {
  int64_t n_keys = 0;
  for (int64_t n = n_cols; n > kBestKeys;) {
    n = (n + kBestKeys - 1) / kBestKeys * k;
    n_keys += n;
  }
  return n_keys;
}

// One sequence of a batch, with its pages in the device's memory.
struct SequenceSpan {
  int32_t first_row = 0;
  int32_t n_tokens = 0;
  int64_t first_position = 0;
  const int32_t* page_ids = nullptr;
};

struct StoreKvJob {
  TensorView k, v;
  const SequenceSpan* sequences = nullptr;
  const int32_t* sequence_of_row = nullptr;  // [n_rows]
  int32_t n_rows = 0;
  KvPages pages;
};

// What a block of attention takes for one KV head: consecutive query rows of one sequence, a row
// per warp. Row i of a sequence is query head i % group, of the KV head's, at its token i / group.
struct RowTile {
  int32_t sequence = 0;
  int32_t first = 0;
  int32_t n_rows = 0;
};
inline constexpr int kAttentionRows = 8;
// Positions that are summed from 0 on their own before they join the others, in order.
inline constexpr int kAttentionChunk = 256;
inline constexpr int kMaxHeadDim = 256;

struct AttentionJob {
  TensorView q, y;
  const SequenceSpan* sequences = nullptr;
  const RowTile* tiles = nullptr;
  int32_t n_tiles = 0;
  KvPages pages;
  int32_t n_head = 0;
  float scale = 1;
  // With partials each of the chunks [first_chunk, first_chunk + n_chunks) has a block of its own
  // and a second kernel joins them with what rows have seen of chunks before; without, a block goes
  // through all chunks. Both do the same arithmetic. [1 + n_chunks, n_tiles, n_head_kv,
  // kAttentionRows, head_dim + 2], the first for what was seen before: maximum, sum of weights,
  // weighted sums.
  float* partials = nullptr;
  int32_t first_chunk = 0;
  int32_t n_chunks = 1;
};

struct RopeJob {
  TensorView x;
  const int64_t* positions = nullptr;
  const double* frequencies = nullptr;  // [n_rot / 2]: radians per position
  int32_t head_dim = 0;
  int32_t n_rot = 0;
  bool is_adjacent = true;
};

// Owned by nobody: constants. Every call enqueues on the stream and returns.
struct KernelTable {
  void (*embed)(void* stream, const TensorView& table, const int32_t* ids, const TensorView& y);
  void (*rms_norm)(void* stream, const TensorView& x, const TensorView& weight, float eps,
                   const TensorView& y);
  void (*layer_norm)(void* stream, const TensorView& x, const TensorView& weight,
                     const TensorView& bias, float eps, const TensorView& y);
  void (*rope)(void* stream, const RopeJob& job);
  void (*store_kv)(void* stream, const StoreKvJob& job);
  void (*attention)(void* stream, const AttentionJob& job);
  void (*add)(void* stream, const TensorView& a, const TensorView& b, const TensorView& y);
  void (*copy)(void* stream, const TensorView& x, const TensorView& y);
  void (*activate)(void* stream, Activation kind, const TensorView& gate, const TensorView& up,
                   const TensorView& y);
  void (*zero_below)(void* stream, const TensorView& a, float threshold);
  void (*select)(void* stream, const SelectJob& job);
  void (*select_best)(void* stream, const BestJob& job);
  void (*round_rows)(void* stream, const TensorView& x, const ByteRows& rows);
  void (*row_dots)(void* stream, const RowDotsJob& job);
  void (*axpy_rows)(void* stream, const AxpyJob& job);
  void (*add_sums)(void* stream, const SumsView& sums, const SumsView& part);
  void (*round_sums)(void* stream, const SumsView& sums, const SumsView& part,
                     const TensorView& bias, const TensorView& y);
};

namespace gpu {
const KernelTable& Kernels();
}  // namespace gpu
namespace emulated {
const KernelTable& Kernels();
}  // namespace emulated

}  // namespace thermocline::kernels::cuda
