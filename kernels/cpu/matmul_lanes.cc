// Products of packed rows with many tokens: rows are unpacked to bytes once per token block, then
// multiplied in tiles. Each product is the sum that lanes-inl.h defines, so it does not depend on
// the tile.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_lanes.cc"
#include <hwy/foreach_target.h>

#include <algorithm>

#include "kernels/cpu/ahead.h"
#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/row_dot.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Tile: 4 rows x 4 tokens are 16 integer accumulators of a part; with their operands they fit 32
// vector registers, and half of them 16.
constexpr int kRows = 4;
constexpr int kTokens = kVecLanes == kUnitLanes ? 4 : 2;
// Rows unpacked together, units of them at a time, and tokens that share them: 16 KiB of bytes,
// 6 KiB of scales and 32 KiB of sums.
constexpr int kRowBlock = 2 * kRows;
constexpr int kSegUnits = 4;
constexpr int kTokenBlock = 64;

// A unit of one row, unpacked.
struct OpenUnit {
  alignas(64) int32_t quants[kDwordsPerBlock * kUnitLanes];
  alignas(64) float scales[2][kUnitLanes];
  alignas(64) float min[kUnitLanes];
};

struct Scratch {
  OpenUnit units[kRowBlock][kSegUnits];
  alignas(64) float sums[kTokenBlock][kRowBlock][kUnitLanes];
};
static_assert(sizeof(Scratch) + 64 <= kScratchFloats * sizeof(float));

template <typename D>
HWY_INLINE void Open(const uint8_t* unit, int n_lanes, OpenUnit& open) {
  for (int part = 0; part < kParts; ++part) {
    LaneVF scales[D::kHalves];
    LaneVF min = hn::Zero(LaneF());
    D::Scales(unit, n_lanes, part, scales, min);
    for (int half = 0; half < D::kHalves; ++half) {
      hn::Store(scales[half], LaneF(), open.scales[half] + part * kVecLanes);
    }
    hn::Store(min, LaneF(), open.min + part * kVecLanes);
    for (int t = 0; t < kDwordsPerBlock; ++t) {
      hn::Store(D::Quants(unit, n_lanes, t, part), LaneI(),
                open.quants + t * kUnitLanes + part * kVecLanes);
    }
  }
}

// Adds one unit of kRows rows times n tokens, of one part, to their sums.
template <typename D, int n>
HWY_INLINE void AddTileUnit(const OpenUnit* const (&rows)[kRows], const std::byte* const (&x)[n],
                            int part, float (*sums)[kRowBlock][kUnitLanes]) {
  constexpr int kSteps = kDwordsPerBlock / D::kHalves;
  const int first_lane = part * kVecLanes;
  for (int half = 0; half < D::kHalves; ++half) {
    LaneVI products[n][kRows];
    for (int k = 0; k < n; ++k) {
      const LaneVI start = StartOf<D>(ByteUnit{x[k]}, half, part);
      for (int r = 0; r < kRows; ++r) products[k][r] = start;
    }
    for (int i = 0; i < kSteps; ++i) {
      const int t = half * kSteps + i;
      LaneVI w[kRows];
      for (int r = 0; r < kRows; ++r) {
        w[r] = hn::Load(LaneI(), rows[r]->quants + t * kUnitLanes + first_lane);
      }
      for (int k = 0; k < n; ++k) {
        const LaneVI q = ByteUnit{x[k]}.Quants(t, part);
        for (int r = 0; r < kRows; ++r) {
          products[k][r] = DotBytes<D::kIsWide>(products[k][r], w[r], q);
        }
      }
    }
    for (int k = 0; k < n; ++k) {
      const LaneVF d = ByteUnit{x[k]}.Scale(part);
      for (int r = 0; r < kRows; ++r) {
        float* sum = sums[k][r] + first_lane;
        const LaneVF scale = hn::Mul(hn::Load(LaneF(), rows[r]->scales[half] + first_lane), d);
        hn::Store(hn::MulAdd(hn::ConvertTo(LaneF(), products[k][r]), scale, hn::Load(LaneF(), sum)),
                  LaneF(), sum);
      }
    }
  }
  if constexpr (D::kHasMin) {
    for (int k = 0; k < n; ++k) {
      const LaneVF block_sum = SumOfBlock(ByteUnit{x[k]}, part);
      for (int r = 0; r < kRows; ++r) {
        float* sum = sums[k][r] + first_lane;
        const LaneVF min = hn::Load(LaneF(), rows[r]->min + first_lane);
        hn::Store(hn::NegMulAdd(min, block_sum, hn::Load(LaneF(), sum)), LaneF(), sum);
      }
    }
  }
}

// Rows [first, first + n_rows) of the block, tokens from t on; a segment of n_units.
struct Tile {
  const Scratch& scratch;
  const TokenRows& x;
  int first_row;
  int64_t first_token;
  int64_t first_unit;
  int n_units;
};

template <typename D, int n>
HWY_INLINE void AddTile(const Tile& tile, Ahead& ahead, float (*sums)[kRowBlock][kUnitLanes]) {
  for (int u = 0; u < tile.n_units; ++u) {
    ahead.Step();
    const OpenUnit* rows[kRows];
    const std::byte* x[n];
    for (int r = 0; r < kRows; ++r) rows[r] = &tile.scratch.units[tile.first_row + r][u];
    for (int k = 0; k < n; ++k) {
      x[k] = tile.x.row(tile.first_token + k) + (tile.first_unit + u) * ByteRow::kUnitBytes;
    }
    for (int part = 0; part < kParts; ++part) AddTileUnit<D, n>(rows, x, part, sums);
  }
}

template <typename D>
HWY_NOINLINE void AddTokens(int n, const Tile& tile, Ahead& ahead,
                            float (*sums)[kRowBlock][kUnitLanes]) {
  switch (n) {
    case 1:
      return AddTile<D, 1>(tile, ahead, sums);
    case 2:
      return AddTile<D, 2>(tile, ahead, sums);
    case 3:
      return AddTile<D, std::min(3, kTokens)>(tile, ahead, sums);
    default:
      return AddTile<D, kTokens>(tile, ahead, sums);
  }
}

// One block of rows and tokens.
template <typename D>
HWY_INLINE void DotBlock(const TensorView& w, const TokenRows& x, const float* bias,
                         const TensorView& y, int64_t row, int64_t end, int64_t token, int n_tokens,
                         Scratch& scratch) {
  const auto n_rows = static_cast<int>(std::min<int64_t>(kRowBlock, end - row));
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  const int64_t n_blocks = w.n_cols / kGroupElems;
  const int64_t n_units = (n_blocks + kUnitLanes - 1) / kUnitLanes;
  std::fill_n(&scratch.sums[0][0][0], n_tokens * kRowBlock * kUnitLanes, 0.0f);
  for (int64_t u0 = 0; u0 < n_units; u0 += kSegUnits) {
    const auto n_seg = static_cast<int>(std::min<int64_t>(kSegUnits, n_units - u0));
    for (int r = 0; r < n_rows; ++r) {
      const auto* unit = reinterpret_cast<const uint8_t*>(w.row(row + r)) + u0 * kFullBytes;
      for (int u = 0; u < n_seg; ++u) {
        const int64_t left = n_blocks - (u0 + u) * kUnitLanes;
        Open<D>(unit + u * kFullBytes, static_cast<int>(std::min<int64_t>(kUnitLanes, left)),
                scratch.units[r][u]);
      }
    }
    // Meanwhile: the next units of these rows, or the first ones of the next rows.
    const bool same_rows = u0 + kSegUnits < n_units;
    const int64_t next_row = same_rows ? row : row + kRowBlock;
    const int64_t next_unit = same_rows ? u0 + kSegUnits : 0;
    const int64_t n_next = std::min<int64_t>(kSegUnits, n_units - next_unit);
    const int64_t n_steps =
        (n_tokens + kTokens - 1) / kTokens * ((n_rows + kRows - 1) / kRows) * n_seg;
    Ahead ahead(w.row(next_row) + next_unit * kFullBytes, w.row_stride_bytes,
                std::clamp<int64_t>(end - next_row, 0, kRowBlock), n_next * kFullBytes, n_steps);
    for (int t = 0; t < n_tokens; t += kTokens) {
      for (int r = 0; r < n_rows; r += kRows) {
        const Tile tile = {scratch, x, r, token + t, u0, n_seg};
        auto* sums = reinterpret_cast<float(*)[kRowBlock][kUnitLanes]>(&scratch.sums[t][r][0]);
        AddTokens<D>(std::min(kTokens, n_tokens - t), tile, ahead, sums);
      }
    }
  }
  for (int t = 0; t < n_tokens; ++t) {
    float* out = y.f32_row(token + t) + row;
    float totals[kRowBlock];
    for (int r = 0; r < kRowBlock; r += 4) FourTotals(scratch.sums[t][r], totals + r);
    for (int r = 0; r < n_rows; ++r) {
      out[r] = bias == nullptr ? totals[r] : totals[r] + bias[row + r];
    }
  }
}

}  // namespace

HWY_NOINLINE void DotTokens(const TensorView& w, const TokenRows& x, const float* bias,
                            const TensorView& y, int64_t begin, int64_t end,
                            float* scratch_floats) {
  const auto at = reinterpret_cast<uintptr_t>(scratch_floats);
  auto& scratch = *reinterpret_cast<Scratch*>((at + 63) / 64 * 64);
  WithLaneType(w.dtype, [&](auto decoder) {
    for (int64_t t = 0; t < y.n_rows; t += kTokenBlock) {
      const auto n_tokens = static_cast<int>(std::min<int64_t>(kTokenBlock, y.n_rows - t));
      for (int64_t i = begin; i < end; i += kRowBlock) {
        DotBlock<decltype(decoder)>(w, x, bias, y, i, end, t, n_tokens, scratch);
      }
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(DotTokens);

void DotLanesTokens(const TensorView& w, const TokenRows& x, const float* bias, const TensorView& y,
                    int64_t begin, int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(DotTokens)(w, x, bias, y, begin, end, scratch);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
