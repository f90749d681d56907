// Weights for measuring: any type, values of ordinary size, no file.
#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "base/dtype.h"
#include "base/status.h"

namespace thermocline::tools {

// w[n_rows, n_cols] in the file layout of `dtype`, about uniform around 0 with magnitudes below
// 0.1, so that no sum overflows. n_cols is a multiple of the type's block. Equal seeds give equal
// bytes. kResourceExhausted without memory.
Result<Buffer> RandomWeights(DType dtype, int64_t n_rows, int64_t n_cols, uint64_t seed);

}  // namespace thermocline::tools
