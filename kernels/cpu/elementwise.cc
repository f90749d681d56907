// Ops on each element by itself. A row's last, partial vector is computed as a whole one on a
// padded copy, so an element's value does not depend on where it stands.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(DF()));

// y[i] = f(a[i], b[i]) for n elements; b may be null, then f gets zeros.
template <typename F>
HWY_INLINE void Map(const float* a, const float* b, int64_t n, float* y, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF second = b == nullptr ? hn::Zero(DF()) : hn::LoadU(DF(), b + i);
    hn::StoreU(f(hn::LoadU(DF(), a + i), second), DF(), y + i);
  }
  if (i == n) return;
  const size_t rest_bytes = static_cast<size_t>(n - i) * sizeof(float);
  HWY_ALIGN float padded[3][kLanes] = {};
  std::memcpy(padded[0], a + i, rest_bytes);
  if (b != nullptr) std::memcpy(padded[1], b + i, rest_bytes);
  hn::Store(f(hn::Load(DF(), padded[0]), hn::Load(DF(), padded[1])), DF(), padded[2]);
  std::memcpy(y + i, padded[2], rest_bytes);
}

struct Silu {
  // x / (1 + exp(-x)), with exp(-|x|) for both signs: it is at most 1, and it ends in 0 where
  // exp(-x) would overflow.
  static HWY_INLINE VF Of(VF x) {
    const VF one = hn::Set(DF(), 1.0f);
    const VF e = hn::Exp(DF(), hn::Neg(hn::Abs(x)));
    const VF numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(DF())), e, one);
    return hn::Mul(x, hn::Div(numerator, hn::Add(one, e)));
  }
};

struct Relu {
  static HWY_INLINE VF Of(VF x) { return hn::Max(x, hn::Zero(DF())); }
};

struct ReluSquared {
  static HWY_INLINE VF Of(VF x) {
    const VF positive = hn::Max(x, hn::Zero(DF()));
    return hn::Mul(positive, positive);
  }
};

struct SumOfBoth {
  HWY_INLINE VF operator()(VF a, VF b) const { return hn::Add(a, b); }
};

// x where |x| reaches the threshold, else 0.
struct KeepAtLeast {
  float threshold;
  HWY_INLINE VF operator()(VF x, VF) const {
    return hn::IfThenElseZero(hn::Ge(hn::Abs(x), hn::Set(DF(), threshold)), x);
  }
};

template <typename Act>
struct ActOnly {
  HWY_INLINE VF operator()(VF gate, VF) const { return Act::Of(gate); }
};

template <typename Act>
struct ActTimesUp {
  HWY_INLINE VF operator()(VF gate, VF up) const { return hn::Mul(Act::Of(gate), up); }
};

template <typename Act>
HWY_INLINE void ActivateAs(const float* gate, const float* up, int64_t n, float* y) {
  if (up == nullptr) return Map(gate, up, n, y, ActOnly<Act>());
  Map(gate, up, n, y, ActTimesUp<Act>());
}

}  // namespace

HWY_NOINLINE void AddRow(const float* a, const float* b, int64_t n, float* y) {
  Map(a, b, n, y, SumOfBoth());
}

HWY_NOINLINE void ZeroBelowRow(float* a, int64_t n, float threshold) {
  Map(a, nullptr, n, a, KeepAtLeast{threshold});
}

HWY_NOINLINE void ActivateRow(Activation kind, const float* gate, const float* up, int64_t n,
                              float* y) {
  switch (kind) {
    case Activation::kSilu:
      return ActivateAs<Silu>(gate, up, n, y);
    case Activation::kRelu:
      return ActivateAs<Relu>(gate, up, n, y);
    case Activation::kReluSquared:
      return ActivateAs<ReluSquared>(gate, up, n, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(AddRow);
HWY_EXPORT(ActivateRow);
HWY_EXPORT(ZeroBelowRow);

void Add(CpuContext& context, TensorView a, TensorView b, TensorView y) {
  DCHECK(a.n_rows == y.n_rows && b.n_rows == y.n_rows && a.n_cols == y.n_cols);
  ForParts(context, y.n_rows, 1, MinItems(y.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(AddRow)(a.f32_row(t), b.f32_row(t), y.n_cols, y.f32_row(t));
    }
  });
}

void Copy(CpuContext& context, TensorView x, TensorView y) {
  DCHECK(x.n_rows == y.n_rows && x.n_cols == y.n_cols);
  const size_t n_bytes = static_cast<size_t>(y.n_cols) * sizeof(float);
  ForParts(context, y.n_rows, 1, MinItems(y.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) std::memcpy(y.row(t), x.row(t), n_bytes);
  });
}

void ZeroBelow(CpuContext& context, TensorView a, float threshold) {
  ForParts(context, a.n_rows, 1, MinItems(a.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(ZeroBelowRow)(a.f32_row(t), a.n_cols, threshold);
    }
  });
}

void Activate(CpuContext& context, Activation kind, TensorView gate, TensorView up, TensorView y) {
  DCHECK(gate.n_rows == y.n_rows && gate.n_cols == y.n_cols);
  ForParts(context, y.n_rows, 1, MinItems(y.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(ActivateRow)
      (kind, gate.f32_row(t), up.empty() ? nullptr : up.f32_row(t), y.n_cols, y.f32_row(t));
    }
  });
}

float ActivateOne(Activation kind, float x) {
  HWY_DYNAMIC_DISPATCH(ActivateRow)(kind, &x, nullptr, 1, &x);
  return x;
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
