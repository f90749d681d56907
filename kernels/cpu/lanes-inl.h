// Products of packed weight rows with rounded activations, for the instruction set being compiled.
// Included once per instruction set by the op files, after hwy/foreach_target.h.
//
// A product is the sum of sum-inl.h over blocks: each block is one exact integer times the product
// of both scales.
#if defined(TC_KERNELS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TC_KERNELS_CPU_LANES_INL_H_
#undef TC_KERNELS_CPU_LANES_INL_H_
#else
#define TC_KERNELS_CPU_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/byte_rows.h"
#include "kernels/cpu/sum-inl.h"
#include "kernels/lanes.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using LaneF = hn::CappedTag<float, kUnitLanes>;
using LaneI = hn::RebindToSigned<LaneF>;
using LaneU = hn::RebindToUnsigned<LaneF>;
using LaneVF = hn::Vec<LaneF>;
using LaneVI = hn::Vec<LaneI>;

static_assert(kUnitLanes == kSumLanes);

HWY_INLINE LaneVI LoadDwords(const void* p) {
  return hn::LoadU(LaneI(), static_cast<const int32_t*>(p));
}

// acc + the four products of bytes of each dword: u unsigned, at most 127 unless kWide, s signed.
template <bool kWide>
HWY_INLINE LaneVI DotBytes(LaneVI acc, LaneVI u, LaneVI s) {
#if HWY_TARGET == HWY_AVX3_DL
  // By its name: Highway 1.0.3 detects AVX-512 VNNI for this target but does not enable it, so that
  // compilers refuse the intrinsic.
  asm("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(u.raw), "v"(s.raw));
  return acc;
#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4
  if constexpr (kWide) {
    // Pairs of products of 8-bit factors may not fit 16 bits: all but the last bit first.
    const LaneVI last = hn::And(u, hn::Set(LaneI(), 0x01010101));
    const LaneVI rest = hn::And(hn::ShiftRight<1>(u), hn::Set(LaneI(), 0x7f7f7f7f));
    const LaneVI twice = hn::ShiftLeft<1>(DotBytes<false>(hn::Zero(LaneI()), rest, s));
    return DotBytes<false>(hn::Add(acc, twice), last, s);
  } else {
#if HWY_TARGET == HWY_AVX3
    const __m512i pairs = _mm512_maddubs_epi16(u.raw, s.raw);
    return hn::Add(acc, LaneVI{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
    const __m256i pairs = _mm256_maddubs_epi16(u.raw, s.raw);
    return hn::Add(acc, LaneVI{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))});
#else
    const __m128i pairs = _mm_maddubs_epi16(u.raw, s.raw);
    return hn::Add(acc, LaneVI{_mm_madd_epi16(pairs, _mm_set1_epi16(1))});
#endif
  }
#else
  const auto add = [&](LaneVI u_byte, LaneVI s_byte) {
    acc =
        hn::Add(acc, hn::Mul(hn::And(u_byte, hn::Set(LaneI(), 0xff)), hn::ShiftRight<24>(s_byte)));
  };
  add(u, hn::ShiftLeft<24>(s));
  add(hn::ShiftRight<8>(u), hn::ShiftLeft<16>(s));
  add(hn::ShiftRight<16>(u), hn::ShiftLeft<8>(s));
  add(hn::ShiftRight<24>(u), s);
  return acc;
#endif
}

// Half scales of lanes [part * kVecLanes, ...) of n_lanes; 0 beyond them.
HWY_INLINE LaneVF LoadHalves(const uint8_t* p, int n_lanes, int part) {
  const hn::Rebind<uint16_t, LaneF> d16;
  const hn::Rebind<hwy::float16_t, LaneF> half;
  const int n = std::clamp(n_lanes - part * kVecLanes, 0, kVecLanes);
  auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p) + part * kVecLanes);
  if (n < kVecLanes) {
    bits = hn::IfThenElseZero(hn::FirstN(d16, static_cast<size_t>(n)), bits);
  }
  return hn::PromoteTo(LaneF(), hn::BitCast(half, bits));
}

// Small integers of lanes [part * kVecLanes, ...); lanes beyond the unit's hold anything.
template <typename T>
HWY_INLINE LaneVI LoadSmall(const T* p, int part) {
  return hn::PromoteTo(LaneI(), hn::LoadU(hn::Rebind<T, LaneF>(), p + part * kVecLanes));
}

// v with 0 in lanes that a unit of n_lanes lacks.
HWY_INLINE LaneVF KeepLanes(LaneVF v, int n_lanes, int part) {
  const int n = n_lanes - part * kVecLanes;
  if (n >= kVecLanes) return v;
  return hn::IfThenElseZero(hn::FirstN(LaneF(), static_cast<size_t>(std::max(n, 0))), v);
}

// Of the halves at p, kPerSuper to a super-block, number kIndex of each lane's super-block; 0 in
// lanes beyond n_lanes.
template <int kPerSuper, int kIndex>
HWY_INLINE LaneVF SuperHalves(const uint8_t* p, int n_lanes, int part) {
  const hn::Rebind<uint16_t, LaneF> d16;
  const hn::Rebind<hwy::float16_t, LaneF> half;
  LaneVF lanes;
  if constexpr (kVecLanes == kUnitLanes) {
    // The unit's halves, four at most, in every four lanes.
    const hn::RepartitionToWide<hn::RepartitionToWide<decltype(d16)>> d64;
    const auto quads = hn::PromoteTo(LaneF(), hn::BitCast(half, hn::Set(d64, LoadU64(p))));
    lanes = hn::IfThenElse(hn::FirstN(LaneF(), kGroupsPerSuper), hn::Broadcast<kIndex>(quads),
                           hn::Broadcast<kPerSuper + kIndex>(quads));
  } else {
    const int super = part * kVecLanes / kGroupsPerSuper;
    const uint16_t bits = LoadU16(p + 2 * (super * kPerSuper + kIndex));
    lanes = hn::PromoteTo(LaneF(), hn::BitCast(half, hn::Set(d16, bits)));
  }
  return KeepLanes(lanes, n_lanes, part);
}

// The dword that each lane of a part has from its super-block: one at p for each.
HWY_INLINE hn::Vec<LaneU> SuperDwords(const uint8_t* p, int part) {
  if constexpr (kVecLanes == kUnitLanes) {
    return hn::IfThenElse(hn::FirstN(LaneU(), kGroupsPerSuper), hn::Set(LaneU(), LoadU32(p)),
                          hn::Set(LaneU(), LoadU32(p + 4)));
  }
  return hn::Set(LaneU(), LoadU32(p + part * kVecLanes / kGroupsPerSuper * 4));
}

// v's bits moved up, or down where `up` is negative: a constant once its loop is unrolled.
HWY_INLINE LaneVI Moved(LaneVI v, int up) {
  switch (up) {
    case 4:
      return hn::ShiftLeft<4>(v);
    case 3:
      return hn::ShiftLeft<3>(v);
    case 2:
      return hn::ShiftLeft<2>(v);
    case 1:
      return hn::ShiftLeft<1>(v);
    case 0:
      return v;
    case -1:
      return hn::ShiftRight<1>(v);
    case -2:
      return hn::ShiftRight<2>(v);
    default:
      DCHECK(up == -3);
      return hn::ShiftRight<3>(v);
  }
}

// How a type's units are read. Quants(unit, n_lanes, t, part): dword t of a part's lanes as
// unsigned bytes, the weight's quant plus kOffset. kHalves scales per block: one, or one for each
// 16 weights. With kHasMin, a weight is scale * quant - min.
template <DType kType>
struct LaneDecoder;

struct NibbleLanes {
  static HWY_INLINE LaneVI Nibbles(const uint8_t* unit, int n_lanes, int t, int part) {
    LaneVI bytes = LoadDwords(unit + 4 * (t % 4 * n_lanes + part * kVecLanes));
    KeepInRegister(bytes);  // for dword t + 4: loads across cache lines are the dear ones
    const LaneVI mask = hn::Set(LaneI(), 0x0f0f0f0f);
    return hn::And(t < 4 ? bytes : hn::ShiftRight<4>(bytes), mask);
  }
};

template <>
struct LaneDecoder<DType::kQ8_0> {
  static constexpr DType kDType = DType::kQ8_0;
  static constexpr int kHalves = 1, kOffset = 128;
  static constexpr bool kHasMin = false, kIsWide = true;
  static HWY_INLINE LaneVI Quants(const uint8_t* unit, int n_lanes, int t, int part) {
    const LaneVI bytes = LoadDwords(unit + 4 * (t * n_lanes + part * kVecLanes));
    return hn::Xor(bytes, hn::Set(LaneI(), static_cast<int32_t>(0x80808080u)));
  }
  static HWY_INLINE void Scales(const uint8_t* unit, int n_lanes, int part,
                                LaneVF (&scales)[kHalves], LaneVF&) {
    scales[0] = LoadHalves(unit + UnitLayout::Of(kDType, n_lanes).scales, n_lanes, part);
  }
};

template <>
struct LaneDecoder<DType::kQ4_0> : NibbleLanes {
  static constexpr DType kDType = DType::kQ4_0;
  static constexpr int kHalves = 1, kOffset = Q4_0Layout::kOffset;
  static constexpr bool kHasMin = false, kIsWide = false;
  static HWY_INLINE LaneVI Quants(const uint8_t* unit, int n_lanes, int t, int part) {
    return Nibbles(unit, n_lanes, t, part);
  }
  static HWY_INLINE void Scales(const uint8_t* unit, int n_lanes, int part,
                                LaneVF (&scales)[kHalves], LaneVF&) {
    scales[0] = LoadHalves(unit + UnitLayout::Of(kDType, n_lanes).scales, n_lanes, part);
  }
};

// Scales and mins of Q4_K and Q5_K.
struct SuperLanesOf {
  static HWY_INLINE void Load(const uint8_t* scales, int n_lanes, int part, LaneVF& scale,
                              LaneVF& min) {
    const LaneVI packed = LoadSmall(scales, part);
    const auto lanes = hn::Iota(LaneU(), static_cast<uint32_t>(part * kVecLanes));
    const auto shifts = hn::ShiftLeft<2>(hn::And(lanes, hn::Set(LaneU(), kGroupsPerSuper - 1)));
    const auto nibbles = hn::Shr(SuperDwords(scales + SuperLayout::Nibbles(n_lanes), part), shifts);
    const LaneVI top = hn::And(hn::ShiftRight<2>(packed), hn::Set(LaneI(), 0x30));
    const LaneVI mins = hn::OrAnd(top, hn::BitCast(LaneI(), nibbles), hn::Set(LaneI(), 0xf));
    const uint8_t* halves = scales + SuperLayout::Halves(n_lanes);
    scale = hn::Mul(hn::ConvertTo(LaneF(), hn::And(packed, hn::Set(LaneI(), 0x3f))),
                    SuperHalves<2, 0>(halves, n_lanes, part));
    min = hn::Mul(hn::ConvertTo(LaneF(), mins), SuperHalves<2, 1>(halves, n_lanes, part));
  }
};

template <>
struct LaneDecoder<DType::kQ4_K> : NibbleLanes {
  static constexpr DType kDType = DType::kQ4_K;
  static constexpr int kHalves = 1, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static HWY_INLINE LaneVI Quants(const uint8_t* unit, int n_lanes, int t, int part) {
    return Nibbles(unit, n_lanes, t, part);
  }
  static HWY_INLINE void Scales(const uint8_t* unit, int n_lanes, int part,
                                LaneVF (&scales)[kHalves], LaneVF& min) {
    SuperLanesOf::Load(unit + UnitLayout::Of(kDType, n_lanes).scales, n_lanes, part, scales[0],
                       min);
  }
};

template <>
struct LaneDecoder<DType::kQ5_K> : NibbleLanes {
  static constexpr DType kDType = DType::kQ5_K;
  static constexpr int kHalves = 1, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static HWY_INLINE LaneVI Quants(const uint8_t* unit, int n_lanes, int t, int part) {
    const LaneVI high =
        LoadDwords(unit + UnitLayout::Of(kDType, n_lanes).high + 4 * part * kVecLanes);
    return hn::OrAnd(Nibbles(unit, n_lanes, t, part), Moved(high, 4 - t),
                     hn::Set(LaneI(), 0x10101010));
  }
  static HWY_INLINE void Scales(const uint8_t* unit, int n_lanes, int part,
                                LaneVF (&scales)[kHalves], LaneVF& min) {
    SuperLanesOf::Load(unit + UnitLayout::Of(kDType, n_lanes).scales, n_lanes, part, scales[0],
                       min);
  }
};

template <>
struct LaneDecoder<DType::kQ6_K> : NibbleLanes {
  static constexpr DType kDType = DType::kQ6_K;
  static constexpr int kHalves = 2, kOffset = Q6_KLayout::kOffset;
  static constexpr bool kHasMin = false, kIsWide = false;
  static HWY_INLINE LaneVI Quants(const uint8_t* unit, int n_lanes, int t, int part) {
    const uint8_t* high = unit + UnitLayout::Of(kDType, n_lanes).high;
    const LaneVI dwords = LoadDwords(high + 4 * (t / 4 * n_lanes + part * kVecLanes));
    return hn::OrAnd(Nibbles(unit, n_lanes, t, part), Moved(dwords, 4 - t % 4 * 2),
                     hn::Set(LaneI(), 0x30303030));
  }
  static HWY_INLINE void Scales(const uint8_t* unit, int n_lanes, int part,
                                LaneVF (&scales)[kHalves], LaneVF&) {
    const UnitLayout at = UnitLayout::Of(kDType, n_lanes);
    const auto* small = reinterpret_cast<const int8_t*>(unit + at.scales);
    const LaneVF d = SuperHalves<1, 0>(unit + at.super_scale, n_lanes, part);
    scales[0] = hn::Mul(hn::ConvertTo(LaneF(), LoadSmall(small, part)), d);
    scales[1] = hn::Mul(hn::ConvertTo(LaneF(), LoadSmall(small + n_lanes, part)), d);
  }
};

// One unit of a row of rounded activations.
struct ByteUnit {
  const std::byte* data;

  HWY_INLINE LaneVI Quants(int t, int part) const {
    return LoadDwords(data + 4 * (t * kUnitLanes + part * kVecLanes));
  }
  HWY_INLINE LaneVF Scale(int part) const {
    return hn::LoadU(LaneF(), reinterpret_cast<const float*>(data + kUnitElems) + part * kVecLanes);
  }
  // Sum of the quants of weights 0-15 or 16-31.
  HWY_INLINE LaneVI Sum(int half, int part) const {
    const auto* sums = reinterpret_cast<const int32_t*>(data + kUnitElems + 4 * kUnitLanes);
    return hn::LoadU(LaneI(), sums + half * kUnitLanes + part * kVecLanes);
  }
};

// What a block's integer sum starts with, so that the weights' offset drops out.
template <typename D>
HWY_INLINE LaneVI StartOf(const ByteUnit& x, int half, int part) {
  if constexpr (D::kOffset == 0) return hn::Zero(LaneI());
  LaneVI sum = x.Sum(half, part);
  if constexpr (D::kHalves == 1) sum = hn::Add(sum, x.Sum(1, part));
  constexpr int kShift = D::kOffset == 128 ? 7 : D::kOffset == 32 ? 5 : 3;
  static_assert(D::kOffset == 0 || D::kOffset == 1 << kShift);
  return hn::Neg(hn::ShiftLeft<kShift>(sum));
}

// d times the sum of a block's quants: what a weight's minimum multiplies.
HWY_INLINE LaneVF SumOfBlock(const ByteUnit& x, int part) {
  const LaneVI sum = hn::Add(x.Sum(0, part), x.Sum(1, part));
  return hn::Mul(hn::ConvertTo(LaneF(), sum), x.Scale(part));
}

// sums += one unit of a weight row times the same unit of activations.
template <typename D>
HWY_INLINE void AddUnit(const uint8_t* unit, int n_lanes, const ByteUnit& x, LaneSums& sums) {
  constexpr int kSteps = kDwordsPerBlock / D::kHalves;
  for (int part = 0; part < kParts; ++part) {
    if (part * kVecLanes >= n_lanes) break;
    LaneVF scales[D::kHalves];
    LaneVF min = hn::Zero(LaneF());
    D::Scales(unit, n_lanes, part, scales, min);
    const LaneVF d = x.Scale(part);
    for (int half = 0; half < D::kHalves; ++half) {
      LaneVI sum = StartOf<D>(x, half, part);
      for (int i = 0; i < kSteps; ++i) {
        const int t = half * kSteps + i;
        sum = DotBytes<D::kIsWide>(sum, D::Quants(unit, n_lanes, t, part), x.Quants(t, part));
      }
      sums.v[part] =
          hn::MulAdd(hn::ConvertTo(LaneF(), sum), hn::Mul(scales[half], d), sums.v[part]);
    }
    if constexpr (D::kHasMin) {
      sums.v[part] = hn::NegMulAdd(min, SumOfBlock(x, part), sums.v[part]);
    }
  }
}

// Calls fn with the decoder of a packed type.
template <typename Fn>
HWY_INLINE void WithLaneType(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kQ8_0:
      return fn(LaneDecoder<DType::kQ8_0>());
    case DType::kQ4_0:
      return fn(LaneDecoder<DType::kQ4_0>());
    case DType::kQ4_K:
      return fn(LaneDecoder<DType::kQ4_K>());
    case DType::kQ5_K:
      return fn(LaneDecoder<DType::kQ5_K>());
    case DType::kQ6_K:
      return fn(LaneDecoder<DType::kQ6_K>());
    default:
      return;  // float types have no lanes
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_LANES_INL_H_
