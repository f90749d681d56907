// Products of a few weight rows, from anywhere in a matrix, with one token: what sparse products
// are made of.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor_view.h"

namespace thermocline::kernels::cpu {

// Rows that are multiplied together, so that their sums hide each other's latency, and the rows
// that are fetched meanwhile.
struct RowGroup {
  static constexpr int kRows = 4;
  static constexpr int kAhead = 8;
  const std::byte* rows[kRows] = {};
  const std::byte* ahead[kAhead] = {};
  int n_rows = 0;
  int n_ahead = 0;
  // Which bytes of the rows ahead.
  int64_t ahead_begin = 0, ahead_end = 0;
  // Whether the rows ahead are the next to be read: then an L1 cache keeps them. Else into L2.
  bool is_ahead_next = false;
};

// values[r] = rows[r] . x, each with the bits of DotOneToken (kernels/cpu/row_dot.h). x is F32, or
// for packed rows a ByteRow.
using GroupDot = void (*)(const RowGroup& group, const std::byte* x, int64_t n_elems,
                          float* values);

// For rows of w's type and layout on this machine.
GroupDot GroupDotOf(const TensorView& w);

}  // namespace thermocline::kernels::cpu
