// Rotary positions: angles in double, rotation in F32. The table of cosines and sines is kept,
// since every layer of a step asks for the same one twice.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DF = hn::CappedTag<float, 16>;

// (first, second) turned by the angle; used by vectors and leftovers alike.
template <typename V>
struct Turned {
  V first, second;
};

template <typename D, typename V = hn::Vec<D>>
HWY_INLINE Turned<V> Turn(D d, V first, V second, const float* cosine, const float* sine) {
  const V c = hn::LoadU(d, cosine), s = hn::LoadU(d, sine);
  return {hn::MulSub(first, c, hn::Mul(second, s)), hn::MulAdd(first, s, hn::Mul(second, c))};
}

template <typename D>
HWY_INLINE void TurnHalves(D d, float* first, float* second, const float* cosine,
                           const float* sine) {
  const auto turned = Turn(d, hn::LoadU(d, first), hn::LoadU(d, second), cosine, sine);
  hn::StoreU(turned.first, d, first);
  hn::StoreU(turned.second, d, second);
}

template <typename D>
HWY_INLINE void TurnAdjacent(D d, float* pairs, const float* cosine, const float* sine) {
  hn::Vec<D> first, second;
  hn::LoadInterleaved2(d, pairs, first, second);
  const auto turned = Turn(d, first, second, cosine, sine);
  hn::StoreInterleaved2(turned.first, turned.second, d, pairs);
}

HWY_INLINE void RotateHead(RopePairing pairing, int n_pairs, const float* cosine, const float* sine,
                           float* head) {
  const bool adjacent = pairing == RopePairing::kAdjacent;
  const int n_lanes = static_cast<int>(hn::Lanes(DF()));
  int i = 0;
  for (; i + n_lanes <= n_pairs; i += n_lanes) {
    if (adjacent) {
      TurnAdjacent(DF(), head + 2 * i, cosine + i, sine + i);
    } else {
      TurnHalves(DF(), head + i, head + n_pairs + i, cosine + i, sine + i);
    }
  }
  const hn::CappedTag<float, 1> d1;
  for (; i < n_pairs; ++i) {
    float* first = adjacent ? head + 2 * i : head + i;
    TurnHalves(d1, first, adjacent ? first + 1 : first + n_pairs, cosine + i, sine + i);
  }
}

}  // namespace

HWY_NOINLINE void RotateRow(const RopeArgs& args, const float* cosines, const float* sines,
                            int head_dim, int64_t n_cols, float* row) {
  for (int64_t c = 0; c < n_cols; c += head_dim) {
    RotateHead(args.pairing, args.n_rot / 2, cosines, sines, row + c);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {
namespace {

bool Matches(const RopeTable& table, const RopeArgs& args, std::span<const int64_t> positions) {
  return table.args.n_rot == args.n_rot && table.args.freq_base == args.freq_base &&
         table.args.freq_scale == args.freq_scale &&
         std::ranges::equal(table.freq_divisors, args.freq_divisors) &&
         std::ranges::equal(table.positions, positions);
}

void Fill(RopeTable& table, const RopeArgs& args, std::span<const int64_t> positions) {
  const auto n_pairs = static_cast<size_t>(args.n_rot / 2);
  table.args = args;
  table.args.freq_divisors = {};
  table.freq_divisors.assign(args.freq_divisors.begin(), args.freq_divisors.end());
  table.positions.assign(positions.begin(), positions.end());
  table.cosines.resize(positions.size() * n_pairs);
  table.sines.resize(positions.size() * n_pairs);
  for (size_t i = 0; i < n_pairs; ++i) {
    const double divisor = args.freq_divisors.empty() ? 1.0 : args.freq_divisors[i];
    const double exponent = -2.0 * static_cast<double>(i) / args.n_rot;
    const double turn = args.freq_scale * std::pow(double{args.freq_base}, exponent) / divisor;
    for (size_t t = 0; t < positions.size(); ++t) {
      const double angle = static_cast<double>(positions[t]) * turn;
      table.cosines[t * n_pairs + i] = static_cast<float>(std::cos(angle));
      table.sines[t * n_pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace

HWY_EXPORT(RotateRow);

void Rope(CpuContext& context, const RopeArgs& args, std::span<const int64_t> positions,
          int head_dim, TensorView x) {
  DCHECK(static_cast<int64_t>(positions.size()) == x.n_rows);
  DCHECK(args.n_rot % 2 == 0 && args.n_rot <= head_dim && x.n_cols % head_dim == 0);
  RopeTable& table = context.rope;
  if (!Matches(table, args, positions)) Fill(table, args, positions);
  const int64_t n_pairs = args.n_rot / 2;
  ForParts(context, x.n_rows, 1, MinItems(x.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      HWY_DYNAMIC_DISPATCH(RotateRow)
      (args, table.cosines.data() + t * n_pairs, table.sines.data() + t * n_pairs, head_dim,
       x.n_cols, x.f32_row(t));
    }
  });
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
