#include "tools/synth/planting.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/rng.h"
#include "base/units.h"
#include "kernels/device.h"
#include "kernels/quantize.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

std::vector<int32_t> Shuffled(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    const double u = UniformAt(seed ^ (stream * 0x9E3779B97F4A7C15u), static_cast<uint64_t>(i));
    std::swap(order[static_cast<size_t>(i)],
              order[static_cast<size_t>(u * static_cast<double>(i + 1))]);
  }
  return order;
}

std::vector<float> RootMeanSquares(TensorView x) {
  std::vector<float> rms;
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const float* row = x.f32_row(t);
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) sum += double{row[i]} * row[i];
    rms.push_back(static_cast<float>(std::sqrt(sum / static_cast<double>(x.n_cols) + kNormEps)));
  }
  return rms;
}

std::vector<float> Deviations(TensorView x) {
  std::vector<float> deviations;
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const double mean = MeanOf(x.Rows(t, 1));
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) {
      const double distance = x.f32_row(t)[i] - mean;
      sum += distance * distance;
    }
    deviations.push_back(
        static_cast<float>(std::sqrt(sum / static_cast<double>(x.n_cols) + kNormEps)));
  }
  return deviations;
}

float MeanOf(TensorView x) {
  double sum = 0;
  for (int64_t t = 0; t < x.n_rows; ++t) {
    sum = std::accumulate(x.f32_row(t), x.f32_row(t) + x.n_cols, sum);
  }
  return static_cast<float>(sum / static_cast<double>(x.n_rows * x.n_cols));
}

double ShareAboveZero(TensorView z) {
  int64_t n = 0;
  for (int64_t t = 0; t < z.n_rows; ++t) {
    n += std::count_if(z.f32_row(t), z.f32_row(t) + z.n_cols, [](float v) { return v > 0; });
  }
  return static_cast<double>(n) / static_cast<double>(z.n_rows * z.n_cols);
}

double MeanSquaredNorm(TensorView a) {
  double sum = 0;
  for (int64_t t = 0; t < a.n_rows; ++t) {
    const float* row = a.f32_row(t);
    for (int64_t i = 0; i < a.n_cols; ++i) sum += double{row[i]} * row[i];
  }
  return sum / static_cast<double>(a.n_rows);
}

std::vector<float> BiasesFor(TensorView values, std::span<const float> scale,
                             std::span<const float> probit) {
  const auto n = static_cast<double>(values.n_rows);
  std::vector<double> sum(static_cast<size_t>(values.n_cols)), squares(sum.size());
  for (int64_t t = 0; t < values.n_rows; ++t) {
    const float* row = values.f32_row(t);
    for (size_t i = 0; i < sum.size(); ++i) {
      const double v = double{row[i]} * scale[static_cast<size_t>(t)];
      sum[i] += v;
      squares[i] += v * v;
    }
  }
  std::vector<float> biases(sum.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    const double mean = sum[i] / n;
    const double deviation = std::sqrt(std::max(0.0, squares[i] / n - mean * mean));
    biases[i] = static_cast<float>(-mean - deviation * probit[i]);
  }
  return biases;
}

void OverwriteColumns(EncodedMatrix* matrix, int64_t first, int64_t n,
                      std::span<const float> values, ThreadPool& pool) {
  const auto block = static_cast<int64_t>(Traits(matrix->dtype).block_elems);
  const int64_t begin = first / block * block;
  const int64_t n_touched = static_cast<int64_t>(RoundUp(static_cast<uint64_t>(first + n),
                                                         static_cast<uint64_t>(block))) -
                            begin;
  const TensorView part = matrix->view().Cols(begin, n_touched);
  pool.ParallelFor(matrix->n_rows, [&](int64_t i, int) {
    std::vector<float> row(static_cast<size_t>(n_touched));
    kernels::DequantizeRow(matrix->dtype, part.row(i), n_touched, row.data());
    std::fill_n(row.begin() + (first - begin), n, values[static_cast<size_t>(i)]);
    kernels::QuantizeRow(matrix->dtype, row, part.row(i));
  });
}

}  // namespace thermocline::tools
