#include "tools/convert/tensor_converter.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "kernels/device.h"
#include "kernels/quantize.h"
#include "tools/first_error.h"
#include "tools/interrupt.h"

namespace thermocline::tools {
namespace {

// Weights of one chunk: 1 MiB as F32, so that the buffers of a thread stay in its caches.
constexpr int64_t kChunkElems = 1 << 18;
// Columns of ffn_down are taken by whole blocks of every type.
constexpr int64_t kColumnBlock = 256;
// Neighbours that share a scale in the 8-bit comparison, as in Q8_0.
constexpr int64_t kEightBitBlock = 32;

int64_t RowsPerChunk(const PlannedTensor& tensor) {
  const int64_t rows = std::max<int64_t>(1, kChunkElems / tensor.target.n_cols());
  return tensor.transpose ? static_cast<int64_t>(RoundUp(rows, kColumnBlock)) : rows;
}

RoundingError Measure(std::span<const float> wanted, std::span<const float> got) {
  RoundingError sum;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double error = double{got[i]} - double{wanted[i]};
    sum.error_squares += error * error;
    sum.weight_squares += double{wanted[i]} * double{wanted[i]};
    sum.max_error = std::max(sum.max_error, std::fabs(error));
  }
  return sum;
}

// Row by row, as blocks do not cross rows.
RoundingError MeasureRoundTrip(void (*round_trip)(std::span<const float>, int64_t, float*),
                               std::span<const float> rows, int64_t n_cols) {
  std::vector<float> got(rows.size());
  for (size_t at = 0; at < rows.size(); at += static_cast<size_t>(n_cols)) {
    round_trip(rows.subspan(at, static_cast<size_t>(n_cols)), kEightBitBlock, got.data() + at);
  }
  return Measure(rows, got);
}

// `what` says what is wrong with the value at `at`, counted from the first row of the chunk.
Status BadValue(const PlannedTensor& tensor, std::string_view what, int64_t first_row, int64_t at,
                float value) {
  const int64_t n_cols = tensor.target.n_cols();
  return InvalidArgument(Str(what, ": ", tensor.target.name, Kv("row", first_row + at / n_cols),
                             Kv("column", at % n_cols), Kv("value", value)));
}

}  // namespace

void RoundingError::Add(const RoundingError& other) {
  error_squares += other.error_squares;
  weight_squares += other.weight_squares;
  max_error = std::max(max_error, other.max_error);
}

double RoundingError::relative_rms() const {
  return weight_squares > 0 ? std::sqrt(error_squares / weight_squares) : 0;
}

void TensorErrors::Add(const TensorErrors& other) {
  stored.Add(other.stored);
  symmetric.Add(other.symmetric);
  asymmetric.Add(other.asymmetric);
}

Result<TensorErrors> TensorConverter::Convert(const PlannedTensor& tensor, size_t index) {
  const int64_t n_rows = tensor.target.n_rows();
  const int64_t step = RowsPerChunk(tensor);
  const auto n_chunks =
      static_cast<int64_t>(DivCeil(static_cast<uint64_t>(n_rows), static_cast<uint64_t>(step)));
  std::vector<TensorErrors> errors(static_cast<size_t>(n_chunks));
  FirstError first_error;
  pool_.ParallelFor(n_chunks, [&](int64_t chunk, int) {
    if (first_error.IsBefore(chunk)) return;
    const int64_t first = chunk * step;
    auto result = ConvertRows(tensor, index, first, std::min(step, n_rows - first));
    if (result.ok()) {
      errors[static_cast<size_t>(chunk)] = *result;
    } else {
      first_error.Report(chunk, result.status());
    }
  });
  TC_RETURN_IF_ERROR(first_error.status());
  TensorErrors total;
  for (const TensorErrors& part : errors) total.Add(part);
  return total;
}

Result<TensorErrors> TensorConverter::ConvertRows(const PlannedTensor& tensor, size_t index,
                                                  int64_t first, int64_t n) const {
  TC_RETURN_IF_ERROR(CheckInterrupted());
  const int64_t n_cols = tensor.target.n_cols();
  const auto n_elems = static_cast<size_t>(n * n_cols);
  std::vector<float> wanted(n_elems), got(n_elems);
  if (tensor.transpose) {
    ReadColumns(*tensor.source, first, n, wanted.data());
  } else {
    ReadRows(*tensor.source, first, n, wanted.data());
  }
  if (const int64_t at = kernels::FirstNonFinite(wanted); at >= 0) {
    return BadValue(tensor, "weight is not finite", first, at, wanted[static_cast<size_t>(at)]);
  }
  const uint64_t row_bytes = RowBytes(tensor.target.dtype, static_cast<uint64_t>(n_cols));
  const uint64_t offset = static_cast<uint64_t>(first) * row_bytes;
  std::vector<std::byte> bytes(static_cast<size_t>(n) * row_bytes);
  if (tensor.is_copy()) {
    std::copy_n(tensor.source->view.row(first), bytes.size(), bytes.data());
    got = wanted;
  } else {
    kernels::QuantizeRow(tensor.target.dtype, wanted, bytes.data());
    kernels::DequantizeRow(tensor.target.dtype, bytes.data(), n * n_cols, got.data());
  }
  if (const int64_t at = kernels::FirstNonFinite(got); at >= 0) {
    return BadValue(tensor, Str("weight is too large for ", DTypeName(tensor.target.dtype)), first,
                    at, wanted[static_cast<size_t>(at)]);
  }
  TC_RETURN_IF_ERROR(writer_.Put(index, offset, bytes));
  bar_.Advance(bytes.size());
  TensorErrors errors;
  errors.stored = Measure(wanted, got);
  if (!options_.compare_8_bits || n_cols < kEightBitBlock) return errors;
  errors.symmetric = MeasureRoundTrip(kernels::RoundTripSymmetric8, wanted, n_cols);
  errors.asymmetric = MeasureRoundTrip(kernels::RoundTripAsymmetric8, wanted, n_cols);
  return errors;
}

}  // namespace thermocline::tools
