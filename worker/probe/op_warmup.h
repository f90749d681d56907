// Every op of a device, run once before its memory is counted.
#pragma once

#include <span>

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Of weights in files.
inline constexpr DType kFileWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                             DType::kQ8_0, DType::kQ4_0, DType::kQ4_K,
                                             DType::kQ5_K, DType::kQ6_K};

// Runs each op on a few rows, for each of these types of weights and every one of keys and values:
// a GPU takes memory of its own when a kernel is first met, for its code and its threads' stacks.
// Returns the first error of the device, with its name: kResourceExhausted or kUnavailable.
Status RunEveryOp(kernels::Device& device, std::span<const DType> types = kFileWeightTypes);

}  // namespace thermocline::worker
