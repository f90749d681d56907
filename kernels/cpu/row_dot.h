// Products of one weight row with one token, and of many rows with one token: the sparse case and
// the decoding of a single sequence.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace thermocline::kernels::cpu {

// Tokens as products want them: the rows of x, or the same rounded to bytes.
class TokenRows {
 public:
  explicit TokenRows(const TensorView& x) : data_(x.data), stride_bytes_(x.row_stride_bytes) {}
  // ByteRows in the context's memory, until the next op. x has a multiple of 32 columns.
  static TokenRows Rounded(CpuContext& context, const TensorView& x);

  const std::byte* row(int64_t t) const { return data_ + t * stride_bytes_; }

 private:
  const std::byte* data_ = nullptr;
  int64_t stride_bytes_ = 0;
};

// y[i] = w[i] . x + bias[i] for rows [begin, end); x as RowDot takes it, bias may be null. Rows are
// read one after the other, as memory likes it best.
void DotOneToken(const TensorView& w, const std::byte* x, const float* bias, float* y,
                 int64_t begin, int64_t end);

// The same for a few tokens of packed rows, whose rounded rows fit a cache: each row of w is
// unpacked for groups of four.
void DotLanesFewTokens(const TensorView& w, const TokenRows& x, const float* bias,
                       const TensorView& y, int64_t begin, int64_t end);

// The same for many tokens of packed rows; `scratch` is a thread's.
void DotLanesTokens(const TensorView& w, const TokenRows& x, const float* bias, const TensorView& y,
                    int64_t begin, int64_t end, float* scratch);

}  // namespace thermocline::kernels::cpu
