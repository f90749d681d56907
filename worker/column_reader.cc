#include "worker/column_reader.h"

#include <algorithm>

#include "base/units.h"

namespace thermocline::worker {
namespace {

// What the buffer holds: an L2 cache or two, and far below any budget. Of 256 columns it is 4 MiB
// for 8192 rows of F16; more rows take more.
constexpr uint64_t kBufferBytes = 4 * kMiB;
// Between two calls of on_read: a few ms of disk reading.
constexpr uint64_t kReportBytes = 8 * kMiB;

int64_t ColumnsAtATime(const model::TensorInfo& info) {
  const uint64_t unit_bytes = RowBytes(info.dtype, kColumnUnit) *
                              static_cast<uint64_t>(std::max<int64_t>(1, info.n_rows()));
  return kColumnUnit * static_cast<int64_t>(std::max<uint64_t>(1, kBufferBytes / unit_bytes));
}

}  // namespace

ColumnRange ColumnsOf(std::span<const int32_t> places, int64_t n_cols) {
  if (places.empty()) return {0, n_cols};
  const auto is_held = [](int32_t place) { return place >= 0; };
  const auto first = std::find_if(places.begin(), places.end(), is_held);
  if (first == places.end()) return {};
  const auto last = std::find_if(places.rbegin(), places.rend(), is_held);
  const int64_t begin = first - places.begin(), end = places.rend() - last;
  return {begin / kColumnUnit * kColumnUnit,
          std::min(n_cols, (end + kColumnUnit - 1) / kColumnUnit * kColumnUnit)};
}

ColumnReader::ColumnReader(const model::TensorInfo& info, const model::RangeReader& reader)
    : info_(info), reader_(reader), most_columns_(ColumnsAtATime(info)) {}

uint64_t ColumnReader::OffsetOf(int64_t row, int64_t column) const {
  const uint64_t row_bytes = RowBytes(info_.dtype, static_cast<uint64_t>(info_.n_cols()));
  return info_.offset_bytes + static_cast<uint64_t>(row) * row_bytes +
         RowBytes(info_.dtype, static_cast<uint64_t>(column));
}

Status ColumnReader::Prefetch(const ColumnRange& range,
                              const std::function<Status(uint64_t)>& on_read) {
  uint64_t n_unreported = 0;
  const bool is_whole = range.size() == info_.n_cols();
  // Whole rows follow one another without a gap, so they are one stretch.
  const int64_t n_stretches = is_whole ? 1 : info_.n_rows();
  for (int64_t row = 0; row < n_stretches; ++row) {
    uint64_t at = OffsetOf(row, range.begin);
    const uint64_t end =
        is_whole ? info_.offset_bytes + info_.size_bytes : OffsetOf(row, range.end);
    while (at < end) {
      const uint64_t n_bytes = std::min(end - at, kBufferBytes);
      buffer_.resize(std::max<size_t>(buffer_.size(), n_bytes));
      TC_RETURN_IF_ERROR(reader_.Read(at, std::span(buffer_).first(n_bytes)));
      at += n_bytes;
      n_unreported += n_bytes;
      if (n_unreported < kReportBytes) continue;
      TC_RETURN_IF_ERROR(on_read(n_unreported));
      n_unreported = 0;
    }
  }
  return n_unreported == 0 ? OkStatus() : on_read(n_unreported);
}

ColumnRange ColumnReader::Next(const ColumnRange& part, const ColumnRange& whole) const {
  return {part.end, std::min(whole.end, part.end + most_columns_)};
}

Result<TensorView> ColumnReader::Read(const ColumnRange& part) {
  const auto row_bytes =
      static_cast<size_t>(RowBytes(info_.dtype, static_cast<uint64_t>(part.size())));
  const auto n_rows = static_cast<size_t>(info_.n_rows());
  buffer_.resize(std::max(buffer_.size(), n_rows * row_bytes));
  for (size_t row = 0; row < n_rows; ++row) {
    TC_RETURN_IF_ERROR(reader_.Read(OffsetOf(static_cast<int64_t>(row), part.begin),
                                    std::span(buffer_).subspan(row * row_bytes, row_bytes)));
  }
  return TensorView::Dense(buffer_.data(), info_.dtype, info_.n_rows(), part.size());
}

}  // namespace thermocline::worker
