// A borrowed, trivially copyable view of a tensor of at most two dimensions.
//
// Shapes are written outermost first and the last dimension is contiguous: x[n_rows, n_cols].
// Higher dimensions are folded into the columns by their owner (heads x head_dim).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/dtype.h"

namespace thermocline {

// How the bytes of a row are arranged.
enum class RowLayout : uint8_t {
  kFile,   // as in a GGUF file
  kLanes,  // a quantised row re-arranged inside itself (kernels/lanes.h); the same size
};

struct TensorView {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  int64_t row_stride_bytes = 0;
  RowLayout layout = RowLayout::kFile;

  // A dense view: rows follow one another without a gap.
  static TensorView Dense(void* data, DType dtype, int64_t n_rows, int64_t n_cols) {
    return {static_cast<std::byte*>(data),
            dtype,
            n_rows,
            n_cols,
            static_cast<int64_t>(RowBytes(dtype, static_cast<uint64_t>(n_cols))),
            RowLayout::kFile};
  }
  static TensorView F32(float* data, int64_t n_rows, int64_t n_cols) {
    return Dense(data, DType::kF32, n_rows, n_cols);
  }

  bool empty() const { return data == nullptr; }
  std::byte* row(int64_t i) const { return data + i * row_stride_bytes; }
  // The row as floats; the dtype must be kF32.
  float* f32_row(int64_t i) const {
    DCHECK(dtype == DType::kF32);
    return reinterpret_cast<float*>(row(i));
  }
  // Rows [begin, begin + n).
  TensorView Rows(int64_t begin, int64_t n) const {
    return {row(begin), dtype, n, n_cols, row_stride_bytes, layout};
  }
  // Elements [begin, begin + n) of each row; `begin` is a multiple of the type's block, and rows
  // are arranged as in a file.
  TensorView Cols(int64_t begin, int64_t n) const {
    DCHECK(layout == RowLayout::kFile);
    return {data + RowBytes(dtype, static_cast<uint64_t>(begin)),
            dtype,
            n_rows,
            n,
            row_stride_bytes,
            layout};
  }
  uint64_t bytes() const {
    return static_cast<uint64_t>(n_rows) * RowBytes(dtype, static_cast<uint64_t>(n_cols));
  }
};

}  // namespace thermocline
