// Norms: one pass per sum, in double, since a norm reads each value once or twice and its sum is
// the one place where a long row would lose bits. Plain loops that the compiler vectorises.
#include <cmath>

#include "kernels/cpu/ops.h"
#include "kernels/device.h"

namespace thermocline::kernels::cpu {
namespace {

// Independent partial sums, so that additions overlap; their order is fixed.
constexpr int kPartials = 8;

// Sum of f(x[i]) in double.
template <typename F>
double SumOf(const float* x, int64_t n, F f) {
  double partials[kPartials] = {};
  int64_t i = 0;
  for (; i + kPartials <= n; i += kPartials) {
    for (int p = 0; p < kPartials; ++p) partials[p] += f(static_cast<double>(x[i + p]));
  }
  for (; i < n; ++i) partials[0] += f(static_cast<double>(x[i]));
  double sum = 0;
  for (const double partial : partials) sum += partial;
  return sum;
}

// The norm's parameters as floats; nearly every file stores them so.
class FloatRow {
 public:
  explicit FloatRow(const TensorView& view) {
    if (view.empty()) return;
    if (view.dtype == DType::kF32) {
      data_ = view.f32_row(0);
      return;
    }
    decoded_.resize(static_cast<size_t>(view.n_cols));
    DequantizeRow(view.dtype, view.row(0), view.n_cols, decoded_.data());
    data_ = decoded_.data();
  }
  // Null when there is no such parameter.
  const float* data() const { return data_; }

 private:
  std::vector<float> decoded_;
  const float* data_ = nullptr;
};

void RmsNormRow(const float* x, const float* weight, float eps, int64_t n, float* y) {
  const double squares = SumOf(x, n, [](double value) { return value * value; });
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(n) + eps));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

void LayerNormRow(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                  float* y) {
  const auto count = static_cast<double>(n);
  const double mean = SumOf(x, n, [](double value) { return value; }) / count;
  const double squares =
      SumOf(x, n, [mean](double value) { return (value - mean) * (value - mean); });
  const double scale = 1.0 / std::sqrt(squares / count + eps);
  // The difference in double: a mean far from 0 would cost the bits that the norm is about.
  for (int64_t i = 0; i < n; ++i) {
    const auto normalized = static_cast<float>((static_cast<double>(x[i]) - mean) * scale);
    y[i] = normalized * weight[i] + (bias == nullptr ? 0.0f : bias[i]);
  }
}

}  // namespace

void RmsNorm(CpuContext& context, TensorView x, TensorView weight, float eps, TensorView y) {
  const FloatRow w(weight);
  ForParts(context, x.n_rows, 1, MinItems(x.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      RmsNormRow(x.f32_row(t), w.data(), eps, x.n_cols, y.f32_row(t));
    }
  });
}

void LayerNorm(CpuContext& context, TensorView x, TensorView weight, TensorView bias, float eps,
               TensorView y) {
  const FloatRow w(weight), b(bias);
  ForParts(context, x.n_rows, 1, MinItems(x.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      LayerNormRow(x.f32_row(t), w.data(), b.data(), eps, x.n_cols, y.f32_row(t));
    }
  });
}

}  // namespace thermocline::kernels::cpu
