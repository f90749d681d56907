#include <vector>

#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {

void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias, TensorView y) {
  const auto n_cols = static_cast<size_t>(y.n_cols);
  std::vector<float> row(n_cols);
  std::vector<double> sums(static_cast<size_t>(y.n_rows) * n_cols, 0.0);
  for (int64_t n = 0; n < active.count(w.n_rows); ++n) {
    const int64_t i = active.id(n);
    DequantizeRow(w, i, row.data());
    for (int64_t t = 0; t < y.n_rows; ++t) {
      const double factor = a.f32_row(t)[i];
      double* sum = sums.data() + static_cast<size_t>(t) * n_cols;
      for (size_t c = 0; c < n_cols; ++c) sum[c] += factor * row[c];
    }
  }
  for (int64_t t = 0; t < y.n_rows; ++t) {
    const double* sum = sums.data() + static_cast<size_t>(t) * n_cols;
    for (size_t c = 0; c < n_cols; ++c) {
      const double b = bias.empty() ? 0.0 : bias.f32_row(0)[c];
      y.f32_row(t)[c] = static_cast<float>(sum[c] + b);
    }
  }
}

}  // namespace thermocline::kernels::reference
