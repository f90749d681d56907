#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_dot.cc"
#include "kernels/cpu/row_dot.h"

#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kLineBytes = 64;

// How far ahead of a run of rows to fetch: near enough that the core's own prefetcher, which keeps
// ahead of these requests, has brought most of their lines into the L2 cache. From 4 KiB on, packed
// rows come at two thirds of the speed. Measured from 0.3 to 8 KiB.
constexpr int64_t kLanesAheadBytes = 2304;
constexpr int64_t kFloatAheadBytes = 2560;
constexpr int64_t kFewAheadBytes = 2048;  // several tokens

HWY_INLINE void Prefetch(const std::byte* p, int64_t n_bytes) {
  for (int64_t at = 0; at < n_bytes; at += kLineBytes) hwy::Prefetch(p + at);
}

template <typename D>
HWY_INLINE float LanesDot(const std::byte* row, const std::byte* next, const std::byte* x,
                          int64_t n_elems) {
  LaneSums sums = ZeroSums();
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  int64_t n_blocks = n_elems / kGroupElems;
  for (; n_blocks >= kUnitLanes; n_blocks -= kUnitLanes) {
    Prefetch(next, kFullBytes);
    AddUnit<D>(reinterpret_cast<const uint8_t*>(row), kUnitLanes, {x}, sums);
    row += kFullBytes;
    next += kFullBytes;
    x += ByteRow::kUnitBytes;
  }
  if (n_blocks > 0) {
    Prefetch(next, kFullBytes);
    AddUnit<D>(reinterpret_cast<const uint8_t*>(row), static_cast<int>(n_blocks), {x}, sums);
  }
  return TotalOf(sums);
}

HWY_INLINE void AddGroup(const Group& w, const Group& x, LaneSums& sums) {
  for (int v = 0; v < kVecs; ++v) {
    sums.v[v % kParts] = hn::MulAdd(w.v[v], x.v[v], sums.v[v % kParts]);
  }
}

template <typename D>
HWY_INLINE float FileDot(const std::byte* row_bytes, const std::byte* next, const std::byte* x,
                         int64_t n_elems) {
  const auto* row = reinterpret_cast<const uint8_t*>(row_bytes);
  const auto* values = reinterpret_cast<const float*>(x);
  LaneSums sums = ZeroSums();
  int64_t i = 0;
  for (; i + D::kBlockElems <= n_elems; i += D::kBlockElems) {
    Prefetch(next, D::kBlockBytes);
    const auto state = D::Prepare(row);
    for (int g = 0; g < D::kGroups; ++g) {
      AddGroup(D::Decode(state, row, g), LoadGroup(values + i + g * kGroupElems), sums);
    }
    row += D::kBlockBytes;
    next += D::kBlockBytes;
  }
  if (i < n_elems) {  // the last group of a float row, padded with zeros
    HWY_ALIGN float w[kGroupElems] = {}, rest[kGroupElems] = {};
    DequantizeRow(D::kDType, reinterpret_cast<const std::byte*>(row), n_elems - i, w);
    std::memcpy(rest, values + i, static_cast<size_t>(n_elems - i) * sizeof(float));
    AddGroup(LoadGroup(w), LoadGroup(rest), sums);
  }
  return TotalOf(sums);
}

// sums[n] += one unit of a row times that unit of n tokens, its weights unpacked once.
template <typename D, int n>
HWY_INLINE void AddUnitTokens(const uint8_t* unit, int n_lanes, const std::byte* const (&x)[n],
                              LaneSums (&sums)[n]) {
  constexpr int kSteps = kDwordsPerBlock / D::kHalves;
  for (int part = 0; part < kParts; ++part) {
    if (part * kVecLanes >= n_lanes) break;
    LaneVF scales[D::kHalves];
    LaneVF min = hn::Zero(LaneF());
    D::Scales(unit, n_lanes, part, scales, min);
    LaneVI w[kDwordsPerBlock];
    for (int t = 0; t < kDwordsPerBlock; ++t) w[t] = D::Quants(unit, n_lanes, t, part);
    for (int k = 0; k < n; ++k) {
      const ByteUnit values{x[k]};
      for (int half = 0; half < D::kHalves; ++half) {
        LaneVI sum = StartOf<D>(values, half, part);
        for (int t = half * kSteps; t < (half + 1) * kSteps; ++t) {
          sum = DotBytes<D::kIsWide>(sum, w[t], values.Quants(t, part));
        }
        const LaneVF scale = hn::Mul(scales[half], values.Scale(part));
        sums[k].v[part] = hn::MulAdd(hn::ConvertTo(LaneF(), sum), scale, sums[k].v[part]);
      }
      if constexpr (D::kHasMin) {
        sums[k].v[part] = hn::NegMulAdd(min, SumOfBlock(values, part), sums[k].v[part]);
      }
    }
  }
}

// Row i with n tokens from t0 on.
template <typename D, int n>
HWY_INLINE void DotRowTokens(const TensorView& w, const TokenRows& tokens, const float* bias,
                             const TensorView& y, int64_t i, int64_t t0) {
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  LaneSums sums[n];
  const std::byte* x[n];
  for (int k = 0; k < n; ++k) {
    sums[k] = ZeroSums();
    x[k] = tokens.row(t0 + k);
  }
  const std::byte* row = w.row(i);
  for (int64_t n_blocks = w.n_cols / kGroupElems; n_blocks > 0; n_blocks -= kUnitLanes) {
    Prefetch(row + kFewAheadBytes, kFullBytes);
    AddUnitTokens<D, n>(reinterpret_cast<const uint8_t*>(row),
                        static_cast<int>(std::min<int64_t>(kUnitLanes, n_blocks)), x, sums);
    row += kFullBytes;
    for (int k = 0; k < n; ++k) x[k] += ByteRow::kUnitBytes;
  }
  for (int k = 0; k < n; ++k) {
    const float value = TotalOf(sums[k]);
    y.f32_row(t0 + k)[i] = bias == nullptr ? value : value + bias[i];
  }
}

template <typename D>
float LanesRowDot(const std::byte* row, const std::byte* next, const std::byte* x, int64_t n) {
  return LanesDot<D>(row, next, x, n);
}

template <typename D>
float FileRowDot(const std::byte* row, const std::byte* next, const std::byte* x, int64_t n) {
  return FileDot<D>(row, next, x, n);
}

template <typename Dot>
HWY_INLINE void DotRun(const TensorView& w, const std::byte* x, const float* bias, float* y,
                       int64_t begin, int64_t end, int64_t ahead_bytes, Dot dot) {
  for (int64_t i = begin; i < end; ++i) {
    const std::byte* row = w.row(i);
    const float value = dot(row, row + ahead_bytes, x, w.n_cols);
    y[i] = bias == nullptr ? value : value + bias[i];
  }
}

}  // namespace

HWY_NOINLINE RowDot ChooseRowDot(DType dtype, RowLayout layout) {
  RowDot chosen = nullptr;
  if (layout == RowLayout::kLanes) {
    WithLaneType(dtype, [&](auto decoder) { chosen = LanesRowDot<decltype(decoder)>; });
  } else {
    WithDType(dtype, [&](auto decoder) { chosen = FileRowDot<decltype(decoder)>; });
  }
  return chosen;
}

HWY_NOINLINE void DotRows(const TensorView& w, const std::byte* x, const float* bias, float* y,
                          int64_t begin, int64_t end) {
  if (w.layout == RowLayout::kLanes) {
    return WithLaneType(w.dtype, [&](auto decoder) {
      DotRun(w, x, bias, y, begin, end, kLanesAheadBytes, LanesDot<decltype(decoder)>);
    });
  }
  WithDType(w.dtype, [&](auto decoder) {
    DotRun(w, x, bias, y, begin, end, kFloatAheadBytes, FileDot<decltype(decoder)>);
  });
}

HWY_NOINLINE void DotLanesFew(const TensorView& w, const TokenRows& x, const float* bias,
                              const TensorView& y, int64_t begin, int64_t end) {
  constexpr int kStep = 4;
  WithLaneType(w.dtype, [&](auto decoder) {
    using D = decltype(decoder);
    for (int64_t i = begin; i < end; ++i) {
      int64_t t = 0;
      for (; t + kStep <= y.n_rows; t += kStep) DotRowTokens<D, kStep>(w, x, bias, y, i, t);
      for (; t < y.n_rows; ++t) DotRowTokens<D, 1>(w, x, bias, y, i, t);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(ChooseRowDot);
HWY_EXPORT(DotRows);
HWY_EXPORT(DotLanesFew);

RowDot RowDotOf(const TensorView& w) {
  return HWY_DYNAMIC_DISPATCH(ChooseRowDot)(w.dtype, w.layout);
}

void DotOneToken(const TensorView& w, const std::byte* x, const float* bias, float* y,
                 int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(DotRows)(w, x, bias, y, begin, end);
}

void DotLanesFewTokens(const TensorView& w, const TokenRows& x, const float* bias,
                       const TensorView& y, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(DotLanesFew)(w, x, bias, y, begin, end);
}

TokenRows TokenRows::Rounded(CpuContext& context, const TensorView& x) {
  TokenRows tokens(x);
  tokens.stride_bytes_ = ByteRow::BytesFor(x.n_cols);
  std::byte* rows = context.byte_rows.Reserve(static_cast<size_t>(x.n_rows * tokens.stride_bytes_));
  ForParts(context, x.n_rows, 1, MinItems(x.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      RoundToBytes(x.f32_row(t), x.n_cols, rows + t * tokens.stride_bytes_);
    }
  });
  tokens.data_ = rows;
  return tokens;
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
