// The row layout that the CPU's integer kernels read: quantised rows re-arranged inside themselves.
//
// A row is cut into units of 16 blocks of 32 weights (the last unit may have fewer; K types count
// their groups of 32 as blocks). Inside a unit of L blocks the quants are transposed in steps of
// four: first the four weights 0-3 of blocks 0 .. L-1, then weights 4-7 of each, and so on. A
// vector of 32-bit lanes then holds one block per lane, so a sum of products of bytes ends up as
// one whole block sum per lane, with nothing to add across lanes, and the scales of a unit, which
// follow the quants, load as one vector. A unit takes exactly the bytes that its blocks take in the
// file, so rows keep their size.
//
// Unit of L blocks, in this order; "dword u of lane j" lies at 4 * (u * L + j):
//   Q8_0  8 dwords of int8 quants; L half scales
//   FP8   as Q8_0, with codes for quants; they are of memory only, and meet activations as they are
//   Q4_0  4 dwords of nibbles, byte c of dword u: low = weight 4u + c, high = weight 16 + 4u + c;
//         L half scales
//   Q4_K  nibbles as Q4_0; then the scales of SuperLayout
//   Q5_K  nibbles; 1 dword of fifth bits, bit t of byte c = weight 4t + c; then as Q4_K
//   Q6_K  low nibbles; 2 dwords of high bit pairs, bits 2t, 2t+1 of byte c of dword h = weight
//         16h + 4t + c; L int8 scales of weights 0-15, L of weights 16-31; half d per super-block
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/tensor_view.h"
#include "kernels/blocks.h"

namespace thermocline::kernels {

inline constexpr int kUnitLanes = 16;
inline constexpr int kUnitElems = kUnitLanes * kGroupElems;
// Weights of one lane in one dword.
inline constexpr int kLaneStep = 4;
inline constexpr int kDwordsPerBlock = kGroupElems / kLaneStep;

// A kernel may read this many bytes beyond the last row: a buffer of packed rows has them.
inline constexpr uint64_t kLanesSlackBytes = 64;

// Where the parts of a unit of L lanes begin, in bytes.
struct UnitLayout {
  int quants = 0;
  int high = 0;  // Q5_K, Q6_K
  // The halves of Q8_0, FP8 and Q4_0, the SuperLayout of Q4_K and Q5_K, int8 of Q6_K.
  int scales = 0;
  int super_scale = 0;  // Q6_K: the halves d
  int n_bytes = 0;

  static constexpr UnitLayout Of(DType dtype, int n_lanes) {
    const int nibbles = 16 * n_lanes;
    switch (dtype) {
      case DType::kQ8_0:
      case DType::kFp8E4M3:
      case DType::kFp8E5M2:
        return {0, 0, 32 * n_lanes, 0, 34 * n_lanes};
      case DType::kQ4_0:
      case DType::kQ4_K:
        return {0, 0, nibbles, 0, 18 * n_lanes};
      case DType::kQ5_K:
        return {0, nibbles, nibbles + 4 * n_lanes, 0, 22 * n_lanes};
      case DType::kQ6_K:
        return {0, nibbles, nibbles + 8 * n_lanes, nibbles + 10 * n_lanes,
                26 * n_lanes + n_lanes / 4};
      default:
        return {};
    }
  }
};

// The scales and mins of the L lanes of a Q4_K or Q5_K unit, 6 bits each, so that a vector of lanes
// takes them apart by a few shifts: L bytes, byte j = scale of lane j | upper two bits of its min
// << 6; then a dword per super-block (8 lanes), nibble j = lower four bits of the min of its lane
// j; then halves d and dmin per super-block. They are as many bytes as in the file.
struct SuperLayout {
  static constexpr int Nibbles(int n_lanes) { return n_lanes; }
  static constexpr int Halves(int n_lanes) { return n_lanes + n_lanes / 2; }
};

// Whether the type has this layout: all that have blocks do.
constexpr bool HasLanes(DType dtype) { return !IsFloat(dtype) && dtype != DType::kI32; }

// Whether products with packed rows of the type round activations to 8 bits first: those with
// integers do, which they are computed in.
constexpr bool MeetsBytes(DType dtype) { return HasLanes(dtype) && !IsFp8(dtype); }

// Re-arranges one row of n_elems from the file's layout. `packed` has RowBytes and may not overlap.
void PackLanesRow(DType dtype, const std::byte* row, int64_t n_elems, std::byte* packed);

// Stores row i of `from`, in the file's layout, as row i of `to`: in its layout and, when `from` is
// F32, its type. False when it holds, or becomes, something infinite or not a number, or a weight
// is too large for the type.
bool PackRow(const TensorView& from, int64_t i, const TensorView& to);

// Dequantises a row in this layout: bit for bit what DequantizeRow makes of the file's row.
void DequantizeLanesRow(DType dtype, const std::byte* packed, int64_t n_elems, float* out);

}  // namespace thermocline::kernels
