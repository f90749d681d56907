// Random weights whose every row can be computed alone, so that any number of threads makes the
// same file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "tools/progress_bar.h"

namespace thermocline::tools {

// w[n_rows, n_cols], bell-shaped around 0, but for the parts that have other values.
struct RandomMatrix {
  uint64_t seed = 0;
  uint64_t stream = 0;  // tells the matrices of a model apart
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  float deviation = 1;
  int64_t first_rows = 0;  // rows [0, first_rows) are zeros
  int64_t first_cols = 0;  // columns [0, first_cols) have this value:
  float first_value = 0;

  // Row `i`, n_cols values. Sums of four uniforms of 16 bits (deviation 1 after scaling), drawn by
  // SplitMix64 (Steele et al. 2014) from a key that Philox gives each row.
  void Row(int64_t i, float* out) const;
};

// A matrix as a file has it.
struct EncodedMatrix {
  DType dtype = DType::kF32;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  std::vector<std::byte> bytes;

  EncodedMatrix() = default;
  EncodedMatrix(DType type, int64_t rows, int64_t cols);
  TensorView view() { return TensorView::Dense(bytes.data(), dtype, n_rows, n_cols); }
};

// Rows that one thread makes at a time: enough to be worth a chunk, few enough to stay in caches.
int64_t RowsAtATime(int64_t n_cols);

// Rows [first, first + n) in `dtype`.
void EncodeRows(const RandomMatrix& matrix, DType dtype, int64_t first, int64_t n, std::byte* out);
EncodedMatrix Encode(const RandomMatrix& matrix, DType dtype, ThreadPool& pool);

}  // namespace thermocline::tools
