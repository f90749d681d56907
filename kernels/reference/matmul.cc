#include <algorithm>
#include <cmath>

#include "kernels/device.h"
#include "kernels/lanes.h"
#include "kernels/reference/ops.h"
#include "kernels/reference/row_dots.h"

namespace thermocline::kernels::reference {
namespace {

// x rounded to 8 bits per block of 32: round(x / d) * d with d = max|x| / 127.
void RoundBlocks(const float* x, int64_t n, std::vector<double>* rounded) {
  for (int64_t b = 0; b < n; b += 32) {
    float largest = 0;
    for (int64_t i = b; i < b + 32; ++i) largest = std::max(largest, std::abs(x[i]));
    for (int64_t i = b; i < b + 32; ++i) largest += x[i] * 0.0f;  // infinite or no number: NaN
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    for (int64_t i = b; i < b + 32; ++i) {
      (*rounded)[static_cast<size_t>(i)] =
          static_cast<double>(std::nearbyint(x[i] * inverse)) * (largest / 127.0f);
    }
  }
}

}  // namespace

std::vector<std::vector<double>> TokenValues(const TensorView& w, const TensorView& x) {
  std::vector<std::vector<double>> tokens;
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const float* row = x.f32_row(t);
    tokens.emplace_back(row, row + x.n_cols);
    const bool is_rounded = w.layout == RowLayout::kLanes && MeetsBytes(w.dtype);
    if (is_rounded) RoundBlocks(row, x.n_cols, &tokens.back());
  }
  return tokens;
}

std::vector<double> RowDots(const TensorView& w, int64_t i,
                            const std::vector<std::vector<double>>& tokens) {
  std::vector<float> row(static_cast<size_t>(w.n_cols));
  DequantizeRow(w, i, row.data());
  std::vector<double> dots;
  for (const std::vector<double>& x : tokens) {
    double sum = 0;
    for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
    dots.push_back(sum);
  }
  return dots;
}

void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) {
  const auto tokens = TokenValues(w, x);
  for (int64_t i = 0; i < w.n_rows; ++i) {
    const double b = bias.empty() ? 0.0 : bias.f32_row(0)[i];
    const std::vector<double> dots = RowDots(w, i, tokens);
    for (int64_t t = 0; t < x.n_rows; ++t) {
      y.f32_row(t)[i] = static_cast<float>(dots[static_cast<size_t>(t)] + b);
    }
  }
}

}  // namespace thermocline::kernels::reference
