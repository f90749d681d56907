// Columns of a matrix in the model file, a bounded number at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/tensor_view.h"
#include "model/range_reader.h"
#include "model/weights.h"

namespace thermocline::worker {

// [begin, end)
struct ColumnRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  friend bool operator==(const ColumnRange&, const ColumnRange&) = default;
};

// The columns of `n_cols` whose place is not negative, widened to kColumnUnit; all where `places`
// is empty, none where nobody has a place.
ColumnRange ColumnsOf(std::span<const int32_t> places, int64_t n_cols);
// Whole blocks of every type. Ranges begin and end at multiples of it, or with the matrix.
inline constexpr int64_t kColumnUnit = 256;

// Reads through a small buffer instead of the file's mapping: a pass over columns touches the pages
// of all rows, and those would count as memory of this process. Thread-compatible.
class ColumnReader {
 public:
  // Both outlive it.
  ColumnReader(const model::TensorInfo& info, const model::RangeReader& reader);

  // Brings the columns of `range` from disk to the system's cache, row by row in the file's order,
  // since Read jumps from row to row. Calls `on_read` every few MiB with the bytes read since.
  // Errors are those of the reader and of `on_read`.
  Status Prefetch(const ColumnRange& range, const std::function<Status(uint64_t)>& on_read);

  // As many columns of `whole`, from its first on, as Read takes at a time.
  ColumnRange First(const ColumnRange& whole) const { return Next({0, whole.begin}, whole); }
  // The columns after `part`; none after the last.
  ColumnRange Next(const ColumnRange& part, const ColumnRange& whole) const;
  // They of all rows, as a matrix of its own; valid until the next call.
  Result<TensorView> Read(const ColumnRange& part);

 private:
  uint64_t OffsetOf(int64_t row, int64_t column) const;

  const model::TensorInfo& info_;
  const model::RangeReader& reader_;
  const int64_t most_columns_;
  std::vector<std::byte> buffer_;
};

}  // namespace thermocline::worker
