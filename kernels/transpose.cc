// Re-laying a weight with one row per neuron, in tiles that stay in the cache.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

// A tile's column of y is one 64-byte line of 16-bit values, so lines are written whole; 256
// columns are whole blocks of every type. As F32 the tile is 32 KiB, the size of an L1 cache.
constexpr int64_t kTileRows = 32;
constexpr int64_t kTileCols = 256;

// Copies elements of `kBytes` bytes: w[r0.., c0..] -> y[c0.., r0..].
template <int kBytes>
void CopyTile(const TensorView& w, const TensorView& y, int64_t r0, int64_t n_rows, int64_t c0,
              int64_t n_cols) {
  for (int64_t c = 0; c < n_cols; ++c) {
    std::byte* out = y.row(c0 + c) + r0 * kBytes;
    for (int64_t r = 0; r < n_rows; ++r) {
      std::memcpy(out + r * kBytes, w.row(r0 + r) + (c0 + c) * kBytes, kBytes);
    }
  }
}

void StoreColumn(const float* tile, int64_t n, DType dtype, std::byte* out) {
  for (int64_t r = 0; r < n; ++r) {
    const float value = tile[r * kTileCols];
    if (dtype == DType::kF32) {
      std::memcpy(out + r * 4, &value, 4);
      continue;
    }
    const uint16_t bits = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(out + r * 2, &bits, 2);
  }
}

void ConvertTile(const TensorView& w, const TensorView& y, int64_t r0, int64_t n_rows, int64_t c0,
                 int64_t n_cols) {
  float tile[kTileRows * kTileCols];
  for (int64_t r = 0; r < n_rows; ++r) {
    DequantizeRow(w.dtype, w.Cols(c0, n_cols).row(r0 + r), n_cols, tile + r * kTileCols);
  }
  const auto out_elem_bytes = static_cast<int64_t>(Traits(y.dtype).block_bytes);
  for (int64_t c = 0; c < n_cols; ++c) {
    StoreColumn(tile + c, n_rows, y.dtype, y.row(c0 + c) + r0 * out_elem_bytes);
  }
}

}  // namespace

void TransposeToRows(TensorView w, TensorView y) {
  DCHECK(IsFloat(y.dtype));
  DCHECK(w.n_rows == y.n_cols && w.n_cols == y.n_rows);
  for (int64_t r0 = 0; r0 < w.n_rows; r0 += kTileRows) {
    const int64_t n_rows = std::min(kTileRows, w.n_rows - r0);
    for (int64_t c0 = 0; c0 < w.n_cols; c0 += kTileCols) {
      const int64_t n_cols = std::min(kTileCols, w.n_cols - c0);
      if (w.dtype != y.dtype) {
        ConvertTile(w, y, r0, n_rows, c0, n_cols);
      } else if (w.dtype == DType::kF32) {
        CopyTile<4>(w, y, r0, n_rows, c0, n_cols);
      } else {
        CopyTile<2>(w, y, r0, n_rows, c0, n_cols);
      }
    }
  }
}

}  // namespace thermocline::kernels
