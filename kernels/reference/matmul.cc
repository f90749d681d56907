#include <vector>

#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

float Dot(const std::vector<float>& w, const float* x, double bias) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += static_cast<double>(w[i]) * x[i];
  return static_cast<float>(sum + bias);
}

}  // namespace

void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) {
  std::vector<float> row(static_cast<size_t>(w.n_cols));
  for (int64_t i = 0; i < w.n_rows; ++i) {
    DequantizeRow(w.dtype, w.row(i), w.n_cols, row.data());
    const double b = bias.empty() ? 0.0 : bias.f32_row(0)[i];
    for (int64_t t = 0; t < x.n_rows; ++t) y.f32_row(t)[i] = Dot(row, x.f32_row(t), b);
  }
}

}  // namespace thermocline::kernels::reference
