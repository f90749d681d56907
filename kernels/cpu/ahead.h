// Fetching the weights of the next block while one is computed: a block's rows are read from memory
// once, and without this the reading and the computing would take turns.
#pragma once

#include <hwy/cache_control.h>

#include <cstdint>

#include "base/tensor_view.h"

namespace thermocline::kernels::cpu {

// Walks over the cache lines of n_rows slices of row_bytes, a few lines a call. Lives in one block.
class Ahead {
 public:
  Ahead() = default;
  // Lines per step so that n_steps calls fetch all of them.
  Ahead(const std::byte* first, int64_t stride_bytes, int64_t n_rows, int64_t row_bytes,
        int64_t n_steps)
      : slice_(first), stride_bytes_(stride_bytes), n_rows_(n_rows), row_bytes_(row_bytes) {
    const int64_t n_lines = n_rows * (row_bytes / kLineBytes + 1);
    lines_per_step_ = n_steps > 0 ? n_lines / n_steps + 1 : 0;
  }

  void Step() {
    for (int64_t i = 0; i < lines_per_step_ && n_rows_ > 0; ++i) {
      hwy::Prefetch(slice_ + at_);
      at_ += kLineBytes;
      if (at_ < row_bytes_) continue;
      at_ = 0;
      slice_ += stride_bytes_;
      --n_rows_;
    }
  }

 private:
  static constexpr int64_t kLineBytes = 64;
  const std::byte* slice_ = nullptr;
  int64_t stride_bytes_ = 0, n_rows_ = 0, row_bytes_ = 0;
  int64_t at_ = 0, lines_per_step_ = 0;
};

// Fetches rows that are read next into the L1 cache, side by side, a line of each in turn, while
// others of their length are read: requests in bursts wait for each other, since a core has few
// buffers for lines on their way.
template <int n>
struct RowsAhead {
  const uint8_t* rows[n];
  int64_t at = 0, due = 0;  // bytes of each row: asked for, and to be asked for

  // The others are read n_bytes further.
  HWY_INLINE void Step(int64_t n_bytes) {
    constexpr int kRead = 0, kIntoL1 = 3, kLineBytes = 64;
    for (due += n_bytes; at < due; at += kLineBytes) {
      for (int i = 0; i < n; ++i) __builtin_prefetch(rows[i] + at, kRead, kIntoL1);
    }
  }
};

}  // namespace thermocline::kernels::cpu
