#include "tools/profile/matrix.h"

#include <algorithm>

namespace thermocline::tools {

Matrix Product(kernels::Device& device, TensorView w, TensorView x) {
  Matrix y(x.n_rows, w.n_rows);
  device.ops().MatMul(w, x, TensorView{}, y.view());
  return y;
}

Matrix Transposed(TensorView x) {
  constexpr int64_t kBlock = 32;  // two tiles of 32 x 32 floats stay in the first-level cache
  Matrix y(x.n_cols, x.n_rows);
  for (int64_t r0 = 0; r0 < x.n_rows; r0 += kBlock) {
    const int64_t r1 = std::min(x.n_rows, r0 + kBlock);
    for (int64_t c0 = 0; c0 < x.n_cols; c0 += kBlock) {
      const int64_t c1 = std::min(x.n_cols, c0 + kBlock);
      for (int64_t c = c0; c < c1; ++c) {
        float* const to = y.row(c).data();
        for (int64_t r = r0; r < r1; ++r) to[r] = x.f32_row(r)[c];
      }
    }
  }
  return y;
}

}  // namespace thermocline::tools
