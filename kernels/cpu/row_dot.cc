#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/row_dot.cc"
#include "kernels/cpu/row_dot.h"

#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kLineBytes = 64;

// How far ahead of a run of rows to fetch: far ahead into the L2 cache, which can wait for more
// lines at a time, and from there near ahead into the L1 cache. With one request into L1 packed
// rows of 4 bits come 5 to 10 % slower. Near may be 512 to 1536 bytes and far 2560 to 3584, all
// within 3 %; beyond 4 KiB it gets slower.
constexpr int64_t kNearBytes = 1024;
constexpr int64_t kFarBytes = 3072;

// What comes so far after these bytes of a run of rows; beyond its end it is only ever prefetched.
HWY_INLINE void FetchAhead(const std::byte* p, int64_t n_bytes) {
  constexpr int kRead = 0, kIntoL1 = 3, kIntoL2 = 2;
  for (int64_t at = 0; at < n_bytes; at += kLineBytes) {
    __builtin_prefetch(p + kNearBytes + at, kRead, kIntoL1);
    __builtin_prefetch(p + kFarBytes + at, kRead, kIntoL2);
  }
}

template <typename D>
HWY_INLINE float LanesDot(const std::byte* row, const std::byte* x, int64_t n_elems) {
  LaneSums sums = ZeroSums();
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  int64_t n_blocks = n_elems / kGroupElems;
  for (; n_blocks >= kUnitLanes; n_blocks -= kUnitLanes) {
    FetchAhead(row, kFullBytes);
    AddUnit<D>(reinterpret_cast<const uint8_t*>(row), kUnitLanes, {x}, sums);
    row += kFullBytes;
    x += ByteRow::kUnitBytes;
  }
  if (n_blocks > 0) {
    FetchAhead(row, kFullBytes);
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
HWY_INLINE float FileDot(const std::byte* row, const std::byte* x, int64_t n_elems) {
  const auto* values = reinterpret_cast<const float*>(x);
  LaneSums sums = ZeroSums();
  int64_t i = 0;
  for (; i + D::kBlockElems <= n_elems; i += D::kBlockElems) {
    FetchAhead(row, D::kBlockBytes);
    const auto* const block = reinterpret_cast<const uint8_t*>(row);
    const auto state = D::Prepare(block);
    for (int g = 0; g < D::kGroups; ++g) {
      AddGroup(D::Decode(state, block, g), LoadGroup(values + i + g * kGroupElems), sums);
    }
    row += D::kBlockBytes;
  }
  if (i < n_elems) {  // the last group of a float row, padded with zeros
    HWY_ALIGN float w[kGroupElems] = {}, rest[kGroupElems] = {};
    DequantizeRow(D::kDType, row, n_elems - i, w);
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
    FetchAhead(row, kFullBytes);
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

template <typename Dot>
HWY_INLINE void DotRun(const TensorView& w, const std::byte* x, const float* bias, float* y,
                       int64_t begin, int64_t end, Dot dot) {
  for (int64_t i = begin; i < end; ++i) {
    const float value = dot(w.row(i), x, w.n_cols);
    y[i] = bias == nullptr ? value : value + bias[i];
  }
}

}  // namespace

HWY_NOINLINE void DotRows(const TensorView& w, const std::byte* x, const float* bias, float* y,
                          int64_t begin, int64_t end) {
  if (w.layout == RowLayout::kLanes) {
    return WithLaneType(w.dtype, [&](auto decoder) {
      DotRun(w, x, bias, y, begin, end, LanesDot<decltype(decoder)>);
    });
  }
  WithDType(w.dtype,
            [&](auto decoder) { DotRun(w, x, bias, y, begin, end, FileDot<decltype(decoder)>); });
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

HWY_EXPORT(DotRows);
HWY_EXPORT(DotLanesFew);

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
