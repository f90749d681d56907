#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {

double Activated(Activation kind, double x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1.0 + std::exp(-x));
    case Activation::kRelu:
      return x > 0 ? x : 0.0;
    case Activation::kReluSquared:
      return x > 0 ? x * x : 0.0;
  }
  return 0.0;
}

void Add(TensorView a, TensorView b, TensorView y) {
  for (int64_t t = 0; t < y.n_rows; ++t) {
    for (int64_t i = 0; i < y.n_cols; ++i) y.f32_row(t)[i] = a.f32_row(t)[i] + b.f32_row(t)[i];
  }
}

void Copy(TensorView x, TensorView y) {
  for (int64_t t = 0; t < y.n_rows; ++t) std::copy_n(x.f32_row(t), y.n_cols, y.f32_row(t));
}

void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) {
  for (int64_t t = 0; t < y.n_rows; ++t) {
    for (int64_t i = 0; i < y.n_cols; ++i) {
      const double factor = up.empty() ? 1.0 : up.f32_row(t)[i];
      y.f32_row(t)[i] = static_cast<float>(Activated(kind, gate.f32_row(t)[i]) * factor);
    }
  }
}

void SelectActive(TensorView a, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= a.n_cols);
  int32_t n = 0;
  for (int64_t i = 0; i < a.n_cols; ++i) {
    bool any = false;
    for (int64_t t = 0; t < a.n_rows; ++t) any = any || a.f32_row(t)[i] != 0.0f;
    if (any) active.ids[n++] = static_cast<int32_t>(i);
  }
  *active.n_active = n;
}

void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= scores.n_cols);
  int32_t n = 0;
  for (int64_t i = 0; i < scores.n_cols; ++i) {
    bool any = false;
    for (int64_t t = 0; t < scores.n_rows; ++t) any = any || scores.f32_row(t)[i] >= threshold;
    if (any) active.ids[n++] = static_cast<int32_t>(i);
  }
  *active.n_active = n;
}

void ZeroBelow(TensorView a, float threshold) {
  for (int64_t t = 0; t < a.n_rows; ++t) {
    for (int64_t i = 0; i < a.n_cols; ++i) {
      if (std::abs(a.f32_row(t)[i]) < threshold) a.f32_row(t)[i] = 0.0f;
    }
  }
}

}  // namespace thermocline::kernels::reference
