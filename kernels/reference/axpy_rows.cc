#include <algorithm>
#include <vector>

#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {

void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) {
  const auto n_cols = static_cast<size_t>(sums.n_cols);
  std::vector<float> row(n_cols);
  std::vector<double> chunk(static_cast<size_t>(sums.n_rows) * n_cols, 0.0);
  std::fill_n(sums.data, chunk.size(), 0.0);
  const int64_t n_active = active.count(w.n_rows);
  for (int64_t n = 0; n < n_active; ++n) {
    const int64_t i = active.id(n);
    DequantizeRow(w, i, row.data());
    for (int64_t t = 0; t < sums.n_rows; ++t) {
      const double factor = a.f32_row(t)[i];
      double* sum = chunk.data() + static_cast<size_t>(t) * n_cols;
      for (size_t c = 0; c < n_cols; ++c) sum[c] += factor * row[c];
    }
    if (n + 1 < n_active && active.id(n + 1) / kSumChunk == i / kSumChunk) continue;
    for (size_t k = 0; k < chunk.size(); ++k) {
      sums.data[k] += static_cast<float>(chunk[k]);
      chunk[k] = 0;
    }
  }
}

void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias, TensorView y) {
  std::vector<double> memory(static_cast<size_t>(y.n_rows * y.n_cols));
  const SumsView sums{memory.data(), y.n_rows, y.n_cols};
  AxpySums(w, a, active, sums);
  RoundSums(sums, {}, bias, y);
}

void AddSums(SumsView sums, SumsView part) {
  for (int64_t k = 0; k < sums.n_rows * sums.n_cols; ++k) sums.data[k] += part.data[k];
}

void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) {
  for (int64_t t = 0; t < y.n_rows; ++t) {
    for (int64_t c = 0; c < y.n_cols; ++c) {
      double sum = sums.row(t)[c];
      if (!part.empty()) sum += part.row(t)[c];
      if (!bias.empty()) sum += bias.f32_row(0)[c];
      y.f32_row(t)[c] = static_cast<float>(sum);
    }
  }
}

}  // namespace thermocline::kernels::reference
