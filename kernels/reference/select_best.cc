#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

float Ranked(float logit) {
  if (std::isnan(logit)) return -std::numeric_limits<float>::infinity();
  return std::min(logit, std::numeric_limits<float>::max());
}

}  // namespace

void SelectBest(TensorView logits, int k, TensorView best) {
  std::vector<int32_t> columns(static_cast<size_t>(logits.n_cols));
  for (int64_t t = 0; t < logits.n_rows; ++t) {
    const float* const row = logits.f32_row(t);
    std::iota(columns.begin(), columns.end(), 0);
    std::partial_sort(columns.begin(), columns.begin() + k, columns.end(),
                      [&](int32_t a, int32_t b) {
                        const float x = Ranked(row[a]), y = Ranked(row[b]);
                        return x != y ? x > y : a < b;
                      });
    for (int i = 0; i < k; ++i) {
      const int32_t column = columns[static_cast<size_t>(i)];
      best.f32_row(t)[2 * i] = Ranked(row[column]);
      best.f32_row(t)[2 * i + 1] = std::bit_cast<float>(column);
    }
  }
}

}  // namespace thermocline::kernels::reference
