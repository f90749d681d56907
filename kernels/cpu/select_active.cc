#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/select_active.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

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

// Lists the columns in [begin, end) whose mask is set at ids[begin] and on; returns how many.
template <typename Columns>
HWY_INLINE int64_t List(const Columns& columns, int64_t begin, int64_t end, int32_t* ids) {
  const hn::CappedTag<int32_t, 16> d;
  const auto n_lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t n = begin, c = begin;
  // A store writes a whole vector at ids[n]; n never overtakes c, so it ends within the part.
  for (; c + n_lanes <= end; c += n_lanes) {
    const auto columns_here = hn::Iota(d, static_cast<int32_t>(c));
    n += static_cast<int64_t>(hn::CompressStore(columns_here, columns(d, c), d, ids + n));
  }
  const hn::CappedTag<int32_t, 1> d1;
  for (; c < end; ++c) {
    if (!hn::AllFalse(d1, columns(d1, c))) ids[n++] = static_cast<int32_t>(c);
  }
  return n - begin;
}

}  // namespace

int64_t ListNotZero(TensorView a, int64_t begin, int64_t end, int32_t* ids) {
  return List(NotZero{a}, begin, end, ids);
}

int64_t ListAtLeast(TensorView scores, float threshold, int64_t begin, int64_t end, int32_t* ids) {
  return List(AtLeast{scores, threshold}, begin, end, ids);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(ListNotZero);
HWY_EXPORT(ListAtLeast);

namespace {

// Columns of a part of the list: a multiple of any vector, and enough parts for 64 threads.
constexpr int64_t kGranule = 64;
constexpr int64_t kMaxParts = 64;

// Lists parts of a[n_tokens, n_ff] side by side, each at its own place of the ids, then closes the
// gaps between them. list(begin, end, ids) returns how many it has listed at ids[begin] and on.
template <typename ListPart>
void ListParts(CpuContext& context, const TensorView& a, ActiveIds active, ListPart list) {
  const int64_t n_elems = a.n_cols * std::max<int64_t>(1, a.n_rows);
  const int64_t n_wanted = std::clamp<int64_t>(
      std::min<int64_t>(context.pool->n_threads(), n_elems / kMinPartElems), 1, kMaxParts);
  const int64_t part =
      std::max<int64_t>(1, (a.n_cols + n_wanted * kGranule - 1) / (n_wanted * kGranule)) * kGranule;
  const int64_t n_parts = (a.n_cols + part - 1) / part;
  int64_t counts[kMaxParts] = {};
  context.pool->ParallelFor(n_parts, [&](int64_t i, int) {
    counts[i] = list(i * part, std::min(a.n_cols, (i + 1) * part), active.ids);
  });
  int64_t n = counts[0];
  for (int64_t i = 1; i < n_parts; ++i) {
    std::memmove(active.ids + n, active.ids + i * part,
                 sizeof(int32_t) * static_cast<size_t>(counts[i]));
    n += counts[i];
  }
  *active.n_active = static_cast<int32_t>(n);
}

}  // namespace

void SelectActive(CpuContext& context, TensorView a, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= a.n_cols);
  ListParts(context, a, active, [&](int64_t begin, int64_t end, int32_t* ids) {
    return HWY_DYNAMIC_DISPATCH(ListNotZero)(a, begin, end, ids);
  });
}

void SelectAtLeast(CpuContext& context, TensorView scores, float threshold, ActiveIds active) {
  DCHECK(!active.all() && active.capacity >= scores.n_cols);
  ListParts(context, scores, active, [&](int64_t begin, int64_t end, int32_t* ids) {
    return HWY_DYNAMIC_DISPATCH(ListAtLeast)(scores, threshold, begin, end, ids);
  });
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
