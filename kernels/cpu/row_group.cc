#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_group.cc"
#include "kernels/cpu/row_group.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int kLineBytes = 64;

// Fetches the rows ahead of a group, one line of each in turn and a few at a time, since a core has
// few buffers for lines on their way and requests in bursts wait for them.
class Fetcher {
 public:
  // All that the group asks for is fetched in n_steps.
  HWY_INLINE Fetcher(const RowGroup& group, int64_t n_steps)
      : group_(group),
        at_(group.ahead_begin),
        due_(group.ahead_begin),
        step_(n_steps > 0 ? (group.ahead_end - group.ahead_begin + n_steps - 1) / n_steps : 0) {}

  HWY_INLINE void Step() {
    constexpr int kRead = 0, kIntoL1 = 3, kIntoL2 = 2;
    due_ = std::min(due_ + step_, group_.ahead_end);
    for (; at_ < due_; at_ += kLineBytes) {
      for (int r = 0; r < group_.n_ahead; ++r) {
        if (group_.is_ahead_next) {
          __builtin_prefetch(group_.ahead[r] + at_, kRead, kIntoL1);
        } else {
          __builtin_prefetch(group_.ahead[r] + at_, kRead, kIntoL2);
        }
      }
    }
  }

 private:
  const RowGroup& group_;
  int64_t at_, due_;
  const int64_t step_;
};

template <int n>
HWY_INLINE void StoreTotals(const LaneSums (&sums)[n], float* values) {
  HWY_ALIGN float lanes[RowGroup::kRows * kSumLanes] = {};
  float totals[RowGroup::kRows];
  for (int r = 0; r < n; ++r) StoreSums(sums[r], lanes + r * kSumLanes);
  FourTotals(lanes, totals);
  std::copy_n(totals, n, values);
}

template <typename D>
struct FileRows {
  // The last group of a float row, padded with zeros.
  template <int n>
  static HWY_INLINE void AddTail(const RowGroup& group, int64_t at_bytes, const float* x,
                                 int64_t n_left, LaneSums (&sums)[n]) {
    HWY_ALIGN float w[kGroupElems] = {}, rest[kGroupElems] = {};
    std::memcpy(rest, x, static_cast<size_t>(n_left) * sizeof(float));
    const Group values = LoadGroup(rest);
    for (int r = 0; r < n; ++r) {
      DequantizeRow(D::kDType, group.rows[r] + at_bytes, n_left, w);
      AddGroup(LoadGroup(w), values, sums[r]);
    }
  }

  static HWY_INLINE void AddGroup(const Group& w, const Group& x, LaneSums& sums) {
    for (int v = 0; v < kVecs; ++v) {
      sums.v[v % kParts] = hn::MulAdd(w.v[v], x.v[v], sums.v[v % kParts]);
    }
  }

  template <int n>
  static HWY_INLINE void Dot(const RowGroup& group, const std::byte* tokens, int64_t n_elems,
                             float* values) {
    const auto* x = reinterpret_cast<const float*>(tokens);
    Fetcher ahead(group, n_elems / D::kBlockElems);
    LaneSums sums[n];
    for (int r = 0; r < n; ++r) sums[r] = ZeroSums();
    int64_t i = 0, at = 0;  // elements and bytes
    for (; i + D::kBlockElems <= n_elems; i += D::kBlockElems, at += D::kBlockBytes) {
      ahead.Step();
      const uint8_t* blocks[n];
      typename D::State states[n];
      for (int r = 0; r < n; ++r) {
        blocks[r] = reinterpret_cast<const uint8_t*>(group.rows[r]) + at;
        states[r] = D::Prepare(blocks[r]);
      }
      for (int g = 0; g < D::kGroups; ++g) {
        const Group x_group = LoadGroup(x + i + g * kGroupElems);
        for (int r = 0; r < n; ++r) {
          AddGroup(D::Decode(states[r], blocks[r], g), x_group, sums[r]);
        }
      }
    }
    if (i < n_elems) AddTail<n>(group, at, x + i, n_elems - i, sums);
    StoreTotals<n>(sums, values);
  }
};

template <typename D>
struct PackedRows {
  template <int n>
  static HWY_INLINE void Dot(const RowGroup& group, const std::byte* tokens, int64_t n_elems,
                             float* values) {
    constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
    Fetcher ahead(group, (n_elems + kUnitElems - 1) / kUnitElems * n);
    LaneSums sums[n];
    for (int r = 0; r < n; ++r) sums[r] = ZeroSums();
    ByteUnit x{tokens};
    int64_t at = 0;
    for (int64_t n_blocks = n_elems / kGroupElems; n_blocks > 0; n_blocks -= kUnitLanes) {
      const int n_lanes = static_cast<int>(std::min<int64_t>(kUnitLanes, n_blocks));
      for (int r = 0; r < n; ++r) {
        ahead.Step();
        AddUnit<D>(reinterpret_cast<const uint8_t*>(group.rows[r]) + at, n_lanes, x, sums[r]);
      }
      at += kFullBytes;
      x.data += ByteRow::kUnitBytes;
    }
    StoreTotals<n>(sums, values);
  }
};

template <typename Rows>
void DotGroup(const RowGroup& group, const std::byte* x, int64_t n_elems, float* values) {
  static_assert(RowGroup::kRows == 4);
  switch (group.n_rows) {
    case 1:
      return Rows::template Dot<1>(group, x, n_elems, values);
    case 2:
      return Rows::template Dot<2>(group, x, n_elems, values);
    case 3:
      return Rows::template Dot<3>(group, x, n_elems, values);
    default:
      return Rows::template Dot<4>(group, x, n_elems, values);
  }
}

}  // namespace

HWY_NOINLINE GroupDot ChooseGroupDot(DType dtype, RowLayout layout) {
  GroupDot chosen = nullptr;
  if (layout == RowLayout::kLanes) {
    WithLaneType(dtype, [&](auto decoder) { chosen = DotGroup<PackedRows<decltype(decoder)>>; });
  } else {
    WithDType(dtype, [&](auto decoder) { chosen = DotGroup<FileRows<decltype(decoder)>>; });
  }
  return chosen;
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(ChooseGroupDot);

GroupDot GroupDotOf(const TensorView& w) {
  return HWY_DYNAMIC_DISPATCH(ChooseGroupDot)(w.dtype, w.layout);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
