#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/select_active.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

// Everything but the sign: what is left of a float is 0 only for +0 and -0.
constexpr int32_t kMagnitude = 0x7fffffff;

// The bits of column c .. c + lanes that are set in any row.
template <typename D>
HWY_INLINE hn::Vec<D> AnyBits(D d, const TensorView& a, int64_t c) {
  auto bits = hn::Zero(d);
  for (int64_t t = 0; t < a.n_rows; ++t) {
    bits = hn::Or(bits, hn::LoadU(d, reinterpret_cast<const int32_t*>(a.f32_row(t)) + c));
  }
  return hn::And(bits, hn::Set(d, kMagnitude));
}

// Columns that are not 0 in some row.
struct NotZero {
  const TensorView& a;
  template <typename D>
  HWY_INLINE hn::Mask<D> operator()(D d, int64_t c) const {
    return hn::Ne(AnyBits(d, a, c), hn::Zero(d));
  }
};

// Columns that reach the threshold in some row.
struct AtLeast {
  const TensorView& scores;
  float threshold;
  template <typename D>
  HWY_INLINE hn::Mask<D> operator()(D d, int64_t c) const {
    const hn::Rebind<float, D> df;
    auto reached = hn::Zero(d);
    for (int64_t t = 0; t < scores.n_rows; ++t) {
      const auto is_reached = hn::Ge(hn::LoadU(df, scores.f32_row(t) + c), hn::Set(df, threshold));
      reached = hn::Or(reached, hn::BitCast(d, hn::VecFromMask(df, is_reached)));
    }
    return hn::Ne(reached, hn::Zero(d));
  }
};

// Lists the columns in 0 .. n_cols whose mask is set.
template <typename Columns>
HWY_INLINE void List(const Columns& columns, int64_t n_cols, ActiveIds active) {
  const hn::CappedTag<int32_t, 16> d;
  const auto n_lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t n = 0, c = 0;
  // A store writes a whole vector at ids[n]; n never overtakes c, so it ends within n_ff.
  for (; c + n_lanes <= n_cols; c += n_lanes) {
    const auto ids = hn::Iota(d, static_cast<int32_t>(c));
    n += static_cast<int64_t>(hn::CompressStore(ids, columns(d, c), d, active.ids + n));
  }
  const hn::CappedTag<int32_t, 1> d1;
  for (; c < n_cols; ++c) {
    if (!hn::AllFalse(d1, columns(d1, c))) active.ids[n++] = static_cast<int32_t>(c);
  }
  *active.n_active = static_cast<int32_t>(n);
}

}  // namespace

void SelectActive(TensorView a, ActiveIds active) { List(NotZero{a}, a.n_cols, active); }

void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) {
  List(AtLeast{scores, threshold}, scores.n_cols, active);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(SelectActive);
HWY_EXPORT(SelectAtLeast);

void SelectActive(CpuContext&, TensorView a, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= a.n_cols);
  HWY_DYNAMIC_DISPATCH(SelectActive)(a, active);
}

void SelectAtLeast(CpuContext&, TensorView scores, float threshold, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= scores.n_cols);
  HWY_DYNAMIC_DISPATCH(SelectAtLeast)(scores, threshold, active);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
