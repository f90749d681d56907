#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/byte_rows.cc"
#include "kernels/cpu/byte_rows.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
constexpr int kVecElems = static_cast<int>(hn::MaxLanes(DF()));

struct RoundedBlock {
  float d = 0;
  int32_t first_sum = 0, second_sum = 0;
  HWY_ALIGN int8_t q[kGroupElems];
};

HWY_INLINE RoundedBlock RoundBlock(const float* x) {
  auto max = hn::Zero(DF());
  auto not_a_number = hn::Zero(DF());  // 0, unless a value is infinite or none: comparing loses it
  for (int i = 0; i < kGroupElems; i += kVecElems) {
    const auto values = hn::LoadU(DF(), x + i);
    max = hn::Max(max, hn::Abs(values));
    not_a_number = hn::MulAdd(values, hn::Zero(DF()), not_a_number);
  }
  RoundedBlock block;
  const float largest = hn::GetLane(hn::MaxOfLanes(DF(), max));
  block.d = largest / 127.0f + hn::GetLane(hn::SumOfLanes(DF(), not_a_number));
  const auto inverse = hn::Set(DF(), largest > 0 ? 127.0f / largest : 0.0f);
  HWY_ALIGN int32_t q[kGroupElems];
  for (int i = 0; i < kGroupElems; i += kVecElems) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(DF(), x + i), inverse));
    hn::Store(rounded, DI(), q + i);
  }
  for (int i = 0; i < kGroupElems; ++i) {
    block.q[i] = static_cast<int8_t>(std::clamp(q[i], -127, 127));
    (i < kSubScaleElems ? block.first_sum : block.second_sum) += block.q[i];
  }
  return block;
}

}  // namespace

void RoundRow(const float* x, int64_t n_elems, std::byte* row) {
  const int64_t n_blocks = n_elems / kGroupElems;
  for (int64_t b0 = 0; b0 < n_blocks; b0 += kUnitLanes, row += ByteRow::kUnitBytes) {
    const int64_t n_lanes = std::min<int64_t>(kUnitLanes, n_blocks - b0);
    auto* d = reinterpret_cast<float*>(row + kUnitElems);
    auto* sums = reinterpret_cast<int32_t*>(row + kUnitElems + 4 * kUnitLanes);
    if (n_lanes < kUnitLanes) std::memset(row, 0, ByteRow::kUnitBytes);
    for (int64_t j = 0; j < n_lanes; ++j) {
      const RoundedBlock block = RoundBlock(x + (b0 + j) * kGroupElems);
      for (int t = 0; t < kDwordsPerBlock; ++t) {
        std::memcpy(row + 4 * (t * kUnitLanes + j), block.q + t * kLaneStep, kLaneStep);
      }
      d[j] = block.d;
      sums[j] = block.first_sum;
      sums[kUnitLanes + j] = block.second_sum;
    }
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
