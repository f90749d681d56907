// What the programs that take --gpu-rows say of it.
#pragma once

namespace thermocline::model {

// A code is off by up to half a place, 2^-4 or 2^-3 of itself; below the normal values by half of
// 2^-9 (E4M3) or 2^-16 (E5M2), where the scale, a power of two, has the block's largest weight
// above half of 448 or 57344 (kernels/fp8.h, kernels/quantize.h).
inline constexpr char kNeuronRowsHelp[] =
    "Rows of neurons in a GPU's memory: as-is (as the file has them), fp8-e4m3 or fp8-e5m2. In 8 "
    "bits, rows of F16 and BF16 take 53 % of their memory and bandwidth there and those of F32 27 "
    "%, so that more neurons fit; that is not exact: a weight is off by up to 6 % (e4m3) or 12 % "
    "(e5m2) of itself or, where it is small beside others of its block of 32, by 2^-17 (e4m3) or "
    "2^-31 (e5m2) of the largest of them. Quantised rows stay as they are";

}  // namespace thermocline::model
