// The one form of every dot product: 16 lanes, added as a tree at the end.
//
// Lane j sums products j, j + 16, j + 32, ... (of floats) or blocks j, j + 16, ... (of packed rows)
// in order, each by a fused multiply-add. Then lane j adds lane j + 8, then j + 4, j + 2, j + 1. A
// vector of 16 lanes holds a sum whole, shorter ones hold it in parts; the result is the same on
// every instruction set with fused multiply-add, in every kernel, batch and thread count.
#if defined(TC_KERNELS_CPU_SUM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TC_KERNELS_CPU_SUM_INL_H_
#undef TC_KERNELS_CPU_SUM_INL_H_
#else
#define TC_KERNELS_CPU_SUM_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kSumLanes = 16;
using SumF = hn::CappedTag<float, kSumLanes>;
using SumVF = hn::Vec<SumF>;
constexpr int kVecLanes = static_cast<int>(hn::MaxLanes(SumF()));
// Vectors that hold one sum.
constexpr int kParts = kSumLanes / kVecLanes;

struct LaneSums {
  // Written out, since a constructor that the compiler makes is not for this instruction set.
  HWY_INLINE LaneSums() {}
  SumVF v[kParts];
};

HWY_INLINE LaneSums ZeroSums() {
  LaneSums sums;
  for (int part = 0; part < kParts; ++part) sums.v[part] = hn::Zero(SumF());
  return sums;
}

HWY_INLINE LaneSums LoadSums(const float* lanes) {
  LaneSums sums;
  for (int part = 0; part < kParts; ++part) {
    sums.v[part] = hn::LoadU(SumF(), lanes + part * kVecLanes);
  }
  return sums;
}

HWY_INLINE void StoreSums(const LaneSums& sums, float* lanes) {
  for (int part = 0; part < kParts; ++part) {
    hn::StoreU(sums.v[part], SumF(), lanes + part * kVecLanes);
  }
}

using QuadF = hn::CappedTag<float, 4>;

// totals[i] = the tree over lanes[i][16], for four sums.
HWY_INLINE void FourTotals(const float* lanes, float* totals) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i, lanes += kSumLanes) {
    float quad[4];
    for (int j = 0; j < 4; ++j) {
      quad[j] = (lanes[j] + lanes[j + 8]) + (lanes[j + 4] + lanes[j + 12]);
    }
    totals[i] = (quad[0] + quad[2]) + (quad[1] + quad[3]);
  }
#else
  const auto quad = [](const float* from) {
    const QuadF d;
    const auto low = hn::Add(hn::LoadU(d, from), hn::LoadU(d, from + 8));
    return hn::Add(low, hn::Add(hn::LoadU(d, from + 4), hn::LoadU(d, from + 12)));
  };
  const auto pair = [](hn::Vec<QuadF> a, hn::Vec<QuadF> b) {
    return hn::Add(hn::InterleaveLower(QuadF(), a, b), hn::InterleaveUpper(QuadF(), a, b));
  };
  const auto first = pair(quad(lanes), quad(lanes + kSumLanes));
  const auto second = pair(quad(lanes + 2 * kSumLanes), quad(lanes + 3 * kSumLanes));
  hn::StoreU(hn::Add(hn::ConcatLowerLower(QuadF(), second, first),
                     hn::ConcatUpperUpper(QuadF(), second, first)),
             QuadF(), totals);
#endif
}

HWY_INLINE float TotalOf(const LaneSums& sums) {
  HWY_ALIGN float lanes[kSumLanes];
  StoreSums(sums, lanes);
  float quad[4];
  for (int j = 0; j < 4; ++j) {
    quad[j] = (lanes[j] + lanes[j + 8]) + (lanes[j + 4] + lanes[j + 12]);
  }
  return (quad[0] + quad[2]) + (quad[1] + quad[3]);
}

// Keeps a loaded vector in its register: compilers would rather load it again for each use, and a
// tile has more uses than load ports.
template <typename V>
HWY_INLINE void KeepInRegister(V& v) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  asm("" : "+v"(v.raw));
#else
  (void)v;
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_SUM_INL_H_
