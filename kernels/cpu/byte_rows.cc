#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/byte_rows.cc"
#include "kernels/cpu/byte_rows.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DF = hn::CappedTag<float, kUnitLanes>;
using DI = hn::RebindToSigned<DF>;
constexpr int kVecElems = static_cast<int>(hn::MaxLanes(DF()));

// A unit's blocks while they are rounded; 0 in lanes that a last, shorter unit lacks.
struct UnitScales {
  HWY_ALIGN float largest[kUnitLanes] = {};  // of the magnitudes; NaN where a value is NaN
  HWY_ALIGN float inverse[kUnitLanes];
};

// As integers, magnitudes are in the order of floats, and what is no number is above all others.
HWY_INLINE float LargestMagnitude(const float* x) {
  const auto magnitude = hn::Set(DI(), 0x7fffffff);
  auto largest = hn::Zero(DI());
  for (int i = 0; i < kGroupElems; i += kVecElems) {
    const auto bits = hn::LoadU(DI(), reinterpret_cast<const int32_t*>(x + i));
    largest = hn::Max(largest, hn::And(bits, magnitude));
  }
  return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(DI(), largest)));
}

// d of every block; not a number where a value is infinite or none.
HWY_INLINE void SetScales(UnitScales& scales, float* d) {
  const auto max_byte = hn::Set(DF(), 127.0f);
  for (int j = 0; j < kUnitLanes; j += kVecElems) {
    const auto largest = hn::Load(DF(), scales.largest + j);
    const auto zero_or_nan = hn::Sub(largest, largest);
    hn::Store(hn::Add(hn::Div(largest, max_byte), zero_or_nan), DF(), d + j);
    const auto inverse = hn::Div(max_byte, largest);
    hn::Store(hn::IfThenElseZero(hn::Gt(largest, hn::Zero(DF())), inverse), DF(),
              scales.inverse + j);
  }
}

// The bytes of block j of a unit.
HWY_INLINE void StoreBlock(const float* x, float inverse, int64_t j, std::byte* unit) {
  const hn::Rebind<int8_t, DI> d8;
  HWY_ALIGN int8_t q[kGroupElems];
  for (int i = 0; i < kGroupElems; i += kVecElems) {
    const auto scaled = hn::Mul(hn::LoadU(DF(), x + i), hn::Set(DF(), inverse));
    const auto rounded = hn::Max(hn::NearestInt(scaled), hn::Set(DI(), -127));
    hn::StoreU(hn::DemoteTo(d8, rounded), d8, q + i);
  }
  for (int t = 0; t < kDwordsPerBlock; ++t) {
    std::memcpy(unit + 4 * (t * kUnitLanes + j), q + t * kLaneStep, kLaneStep);
  }
}

// sums[half][lane] of the bytes of each block's first and last 16 weights.
HWY_INLINE void SetSums(const std::byte* unit, int32_t* sums) {
  constexpr int kHalf = kDwordsPerBlock / 2;
  const auto* dwords = reinterpret_cast<const int32_t*>(unit);
  for (int half = 0; half < 2; ++half) {
    for (int j = 0; j < kUnitLanes; j += kVecElems) {
      auto sum = hn::Zero(DI());
      for (int t = half * kHalf; t < (half + 1) * kHalf; ++t) {
        const auto q = hn::Load(DI(), dwords + t * kUnitLanes + j);
        sum = hn::Add(sum, hn::ShiftRight<24>(q));
        sum = hn::Add(sum, hn::ShiftRight<24>(hn::ShiftLeft<8>(q)));
        sum = hn::Add(sum, hn::ShiftRight<24>(hn::ShiftLeft<16>(q)));
        sum = hn::Add(sum, hn::ShiftRight<24>(hn::ShiftLeft<24>(q)));
      }
      hn::Store(sum, DI(), sums + half * kUnitLanes + j);
    }
  }
}

}  // namespace

void RoundRow(const float* x, int64_t n_elems, std::byte* row) {
  const int64_t n_blocks = n_elems / kGroupElems;
  for (int64_t b0 = 0; b0 < n_blocks; b0 += kUnitLanes, row += ByteRow::kUnitBytes) {
    const int64_t n_lanes = std::min<int64_t>(kUnitLanes, n_blocks - b0);
    auto* d = reinterpret_cast<float*>(row + kUnitElems);
    auto* sums = reinterpret_cast<int32_t*>(row + kUnitElems + 4 * kUnitLanes);
    if (n_lanes < kUnitLanes) std::memset(row, 0, ByteRow::kUnitBytes);
    const float* const blocks = x + b0 * kGroupElems;
    UnitScales scales;
    for (int64_t j = 0; j < n_lanes; ++j) {
      scales.largest[j] = LargestMagnitude(blocks + j * kGroupElems);
    }
    SetScales(scales, d);
    for (int64_t j = 0; j < n_lanes; ++j) {
      StoreBlock(blocks + j * kGroupElems, scales.inverse[j], j, row);
    }
    SetSums(row, sums);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(RoundRow);

void RoundToBytes(const float* x, int64_t n_elems, std::byte* row) {
  HWY_DYNAMIC_DISPATCH(RoundRow)(x, n_elems, row);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
