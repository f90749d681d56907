// Encoding rows of F32 in every weight type: the other direction of DequantizeRow.
//
// Quantised blocks are chosen by least squares: for each group of weights that shares a scale,
// several roundings are tried, the scale (and minimum) that fits each of them best is solved for,
// and the one with the least squared error is kept. Equal rows give equal bytes on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace thermocline::kernels {

// Blocks of FP8 have a power of two for their scale, so that scaling rounds nothing: the least with
// which no weight is beyond the largest code, or 2^-24, the least that F16 has.
//
// Encodes one row, whose length is a multiple of the type's block, in any type but I32. Values must
// be finite. F16 and BF16 round to nearest even; a value beyond the type's range becomes infinite
// in F16 and in the scale of a quantised block, which shows when the row is decoded.
void QuantizeRow(DType dtype, std::span<const float> row, std::byte* out);

// Index of the first value that is infinite or NaN; -1 when all are finite.
int64_t FirstNonFinite(std::span<const float> row);

// What 8-bit integers make of a row when `block` neighbours share an F16 scale: w = d q with q in
// [-127, 127] (symmetric; Q8_0 when the block is 32), or w = d (q - z) with q and z in [0, 255]
// (asymmetric; one byte a block more). y may be the row.
void RoundTripSymmetric8(std::span<const float> row, int64_t block, float* y);
void RoundTripAsymmetric8(std::span<const float> row, int64_t block, float* y);

}  // namespace thermocline::kernels
