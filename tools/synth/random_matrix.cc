#include "tools/synth/random_matrix.h"

#include <algorithm>

#include "base/rng.h"
#include "base/units.h"
#include "kernels/quantize.h"

namespace thermocline::tools {
namespace {

constexpr int64_t kElemsAtATime = 1 << 16;  // 256 KiB as F32
constexpr float kSqrt3 = 1.7320508f;        // makes the deviation of a sum of four uniforms 1

uint64_t SplitMix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t RowKey(uint64_t seed, uint64_t stream, int64_t row) {
  const auto i = static_cast<uint64_t>(row);
  const auto words =
      Philox4x32({static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32),
                  static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return (static_cast<uint64_t>(words[0]) << 32) | words[1];
}

// The sum of the four 16-bit parts of a word.
uint32_t SumOfParts(uint64_t word) {
  constexpr uint64_t kEven = 0x0000FFFF0000FFFFu;
  const uint64_t pairs = (word & kEven) + ((word >> 16) & kEven);
  return static_cast<uint32_t>(pairs) + static_cast<uint32_t>(pairs >> 32);
}

}  // namespace

void RandomMatrix::Row(int64_t i, float* out) const {
  if (i < first_rows) {
    std::fill_n(out, n_cols, 0.0f);
    return;
  }
  constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15u;
  constexpr float kMeanSum = 4 * 65535 / 2.0f;
  const float scale = deviation * kSqrt3 * 0x1p-16f;
  const uint64_t key = RowKey(seed, stream, i);
  for (int64_t c = first_cols; c < n_cols; ++c) {
    const uint64_t word = SplitMix64(key + static_cast<uint64_t>(c) * kGoldenGamma);
    out[c] = scale * (static_cast<float>(static_cast<int32_t>(SumOfParts(word))) - kMeanSum);
  }
  std::fill_n(out, first_cols, first_value);
}

EncodedMatrix::EncodedMatrix(DType type, int64_t rows, int64_t cols)
    : dtype(type),
      n_rows(rows),
      n_cols(cols),
      bytes(static_cast<size_t>(rows) * RowBytes(type, static_cast<uint64_t>(cols))) {}

int64_t RowsAtATime(int64_t n_cols) { return std::max<int64_t>(1, kElemsAtATime / n_cols); }

void EncodeRows(const RandomMatrix& matrix, DType dtype, int64_t first, int64_t n, std::byte* out) {
  const uint64_t row_bytes = RowBytes(dtype, static_cast<uint64_t>(matrix.n_cols));
  std::vector<float> row(static_cast<size_t>(matrix.n_cols));
  for (int64_t i = 0; i < n; ++i) {
    matrix.Row(first + i, row.data());
    kernels::QuantizeRow(dtype, row, out + static_cast<uint64_t>(i) * row_bytes);
  }
}

EncodedMatrix Encode(const RandomMatrix& matrix, DType dtype, ThreadPool& pool) {
  EncodedMatrix encoded(dtype, matrix.n_rows, matrix.n_cols);
  const int64_t step = RowsAtATime(matrix.n_cols);
  const auto n_chunks = static_cast<int64_t>(
      DivCeil(static_cast<uint64_t>(matrix.n_rows), static_cast<uint64_t>(step)));
  pool.ParallelFor(n_chunks, [&](int64_t chunk, int) {
    const int64_t first = chunk * step;
    const int64_t n = std::min(step, matrix.n_rows - first);
    EncodeRows(matrix, dtype, first, n, encoded.view().row(first));
  });
  return encoded;
}

}  // namespace thermocline::tools
