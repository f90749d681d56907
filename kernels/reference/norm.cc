#include <cmath>
#include <vector>

#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

std::vector<float> FirstRow(TensorView view) {
  std::vector<float> values(static_cast<size_t>(view.n_cols));
  DequantizeRow(view.dtype, view.row(0), view.n_cols, values.data());
  return values;
}

}  // namespace

void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) {
  const std::vector<float> w = FirstRow(weight);
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const float* in = x.f32_row(t);
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) sum += static_cast<double>(in[i]) * in[i];
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(x.n_cols) + eps);
    float* out = y.f32_row(t);
    for (int64_t i = 0; i < x.n_cols; ++i) {
      out[i] = static_cast<float>(in[i] * scale * w[static_cast<size_t>(i)]);
    }
  }
}

void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps, TensorView y) {
  const std::vector<float> w = FirstRow(weight);
  const std::vector<float> b = bias.empty() ? std::vector<float>(w.size(), 0.0f) : FirstRow(bias);
  const auto n = static_cast<double>(x.n_cols);
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const float* in = x.f32_row(t);
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) sum += in[i];
    const double mean = sum / n;
    double squares = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) squares += (in[i] - mean) * (in[i] - mean);
    const double scale = 1.0 / std::sqrt(squares / n + eps);
    float* out = y.f32_row(t);
    for (int64_t i = 0; i < x.n_cols; ++i) {
      const auto c = static_cast<size_t>(i);
      out[i] = static_cast<float>((in[i] - mean) * scale * w[c] + b[c]);
    }
  }
}

}  // namespace thermocline::kernels::reference
