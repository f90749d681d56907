// Activations rounded to 8 bits, arranged as the lanes of packed weight rows are (kernels/lanes.h).
//
// A block of 32 activations x is stored as q = round(x / d), d = max|x| / 127: the rounding of
// GGUF's Q8_0 but with d kept in F32. A row is a sequence of units like a weight row's; a unit of L
// lanes holds 8 dwords of q per lane, then per lane d and the sums of its first and last 16 q,
// which weights with an offset or a minimum need.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/lanes.h"

namespace thermocline::kernels::cpu {

// One row of n_elems rounded activations in memory of BytesFor(n_elems), 64-byte aligned. Every
// unit has room for kUnitLanes lanes; those that a last, shorter unit lacks are zero.
struct ByteRow {
  const std::byte* data = nullptr;

  static constexpr int64_t kUnitBytes = kUnitElems + 3 * kUnitLanes * 4;
  static constexpr int64_t BytesFor(int64_t n_elems) {
    return (n_elems + kUnitElems - 1) / kUnitElems * kUnitBytes;
  }
};

// Rounds x[n_elems], a multiple of 32, into `row`.
void RoundToBytes(const float* x, int64_t n_elems, std::byte* row);

}  // namespace thermocline::kernels::cpu
