// Products of weight rows in the file's layout with activations: float types, and quantised types
// decoded to floats. Each product is the sum of sum-inl.h; the kernels differ only in how many run
// side by side.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/ahead.h"
#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/row_dot.h"
#include "kernels/cpu/sum-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

static_assert(kLanes == kVecLanes);

// The kernel for a few tokens: rows and tokens side by side. Beyond kFewTokens decoding the rows
// again for every group of tokens costs more than keeping them decoded.
constexpr int kFewRows = kParts == 1 ? 4 : 2;
constexpr int kFewStep = kParts == 1 ? 4 : 2;
constexpr int64_t kFewTokens = 16;

// Tile of the many-token kernel: with 32 registers, 4 rows x 6 tokens are 24 accumulators; with 16,
// 2 rows x 3 tokens in two parts are 12.
constexpr int kRows = kParts == 1 ? 4 : 2;
constexpr int kTokens = kParts == 1 ? 6 : 3;
constexpr int kRowBlock = 8;
constexpr int64_t kTokenBlock = 96;
// 8 decoded rows of 1024 floats are 32 KiB: with the activations of a tile they stream from an L2
// cache. Rows lie a line more than a power of two apart, else they would all want the same sets.
constexpr int64_t kColBlock = 1024;
constexpr int64_t kColStride = kColBlock + 16;
static_assert(kRowBlock % kRows == 0);
static_assert(kRowBlock * kColStride + kTokenBlock * kRowBlock * kSumLanes <= kScratchFloats);

// What one call computes: y[t, i] = x[t] . w[i] + bias[i].
struct Job {
  TensorView w, x;
  const float* bias;  // null: none
  TensorView y;

  const uint8_t* w_row(int64_t i) const { return reinterpret_cast<const uint8_t*>(w.row(i)); }
  void Store(int64_t t, int64_t i, float dot) const {
    y.f32_row(t)[i] = bias == nullptr ? dot : dot + bias[i];
  }
};

// A few tokens from t0 on, rows [first, first + n_rows) of whole groups: weights are decoded in
// registers, each once for all the tokens.
template <typename D, int n_rows, int n_tokens>
HWY_INLINE void DotFewTokens(const Job& job, int64_t first, int64_t t0) {
  const uint8_t* rows[n_rows];
  const float* x[n_tokens];
  LaneSums sums[n_tokens][n_rows];
  for (int r = 0; r < n_rows; ++r) rows[r] = job.w_row(first + r);
  for (int t = 0; t < n_tokens; ++t) {
    x[t] = job.x.f32_row(t0 + t);
    for (int r = 0; r < n_rows; ++r) sums[t][r] = ZeroSums();
  }
  for (int64_t c = 0; c < job.w.n_cols; c += D::kBlockElems) {
    typename D::State states[n_rows];
    for (int r = 0; r < n_rows; ++r) states[r] = D::Prepare(rows[r]);
    for (int g = 0; g < D::kGroups; ++g) {
      for (int r = 0; r < n_rows; ++r) {
        const Group w = D::Decode(states[r], rows[r], g);
        for (int t = 0; t < n_tokens; ++t) {
          const Group values = LoadGroup(x[t] + c + g * kGroupElems);
          for (int v = 0; v < kVecs; ++v) {
            SumVF& sum = sums[t][r].v[v % kParts];
            sum = hn::MulAdd(w.v[v], values.v[v], sum);
          }
        }
      }
    }
    for (int r = 0; r < n_rows; ++r) rows[r] += D::kBlockBytes;
  }
  for (int t = 0; t < n_tokens; ++t) {
    for (int r = 0; r < n_rows; ++r) job.Store(t0 + t, first + r, TotalOf(sums[t][r]));
  }
}

// Up to kFewTokens tokens; the rows stay in the cache between two groups of tokens.
template <typename D>
HWY_NOINLINE void FewTokens(const Job& job, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + kFewRows <= end; i += kFewRows) {
    int64_t t = 0;
    for (; t + kFewStep <= job.x.n_rows; t += kFewStep)
      DotFewTokens<D, kFewRows, kFewStep>(job, i, t);
    for (; t < job.x.n_rows; ++t) DotFewTokens<D, kFewRows, 1>(job, i, t);
  }
  for (; i < end; ++i) {
    for (int64_t t = 0; t < job.x.n_rows; ++t) DotFewTokens<D, 1, 1>(job, i, t);
  }
}

// Adds n_cols columns, a multiple of 16, of kRows decoded rows and n tokens to their sums.
// w[kRows] with stride kColStride; sums[n][kRowBlock][16].
template <int n>
HWY_INLINE void DotTile(const float* w, const float* const (&x)[kTokens], int64_t n_cols,
                        Ahead& ahead, float* sums) {
  LaneSums tile[n][kRows];
  for (int t = 0; t < n; ++t) {
    for (int r = 0; r < kRows; ++r) tile[t][r] = LoadSums(sums + (t * kRowBlock + r) * kSumLanes);
  }
  for (int64_t i = 0; i < n_cols; i += kSumLanes) {
    ahead.Step();
    for (int part = 0; part < kParts; ++part) {
      const int64_t at = i + part * kVecLanes;
      SumVF x_vec[n];
      for (int t = 0; t < n; ++t) {
        x_vec[t] = hn::LoadU(SumF(), x[t] + at);
        KeepInRegister(x_vec[t]);
      }
      for (int r = 0; r < kRows; ++r) {
        SumVF w_vec = hn::LoadU(SumF(), w + r * kColStride + at);
        KeepInRegister(w_vec);
        for (int t = 0; t < n; ++t) {
          tile[t][r].v[part] = hn::MulAdd(w_vec, x_vec[t], tile[t][r].v[part]);
        }
      }
    }
  }
  for (int t = 0; t < n; ++t) {
    for (int r = 0; r < kRows; ++r) StoreSums(tile[t][r], sums + (t * kRowBlock + r) * kSumLanes);
  }
}

HWY_NOINLINE void DotTokens(int n_tokens, const float* w, const float* const (&x)[kTokens],
                            int64_t n_cols, Ahead& ahead, float* sums) {
  switch (n_tokens) {
    case 1:
      return DotTile<1>(w, x, n_cols, ahead, sums);
    case 2:
      return DotTile<2>(w, x, n_cols, ahead, sums);
    case 3:
      return DotTile<3>(w, x, n_cols, ahead, sums);
    case 4:
      return DotTile<std::min(4, kTokens)>(w, x, n_cols, ahead, sums);
    case 5:
      return DotTile<std::min(5, kTokens)>(w, x, n_cols, ahead, sums);
    default:
      return DotTile<kTokens>(w, x, n_cols, ahead, sums);
  }
}

// A block of rows [r0, r0 + n_rows), tokens [t0, t0 + n_tokens), columns [c0, c0 + n_cols).
struct Block {
  int64_t r0;
  int n_rows;
  int64_t t0, n_tokens, c0, n_cols;
};

// Adds the last columns of a row, fewer than 16, padded with zeros on both sides.
HWY_INLINE void DotTail(int n_tokens, const float* w, const float* const (&x)[kTokens],
                        int64_t n_cols, float* sums) {
  HWY_ALIGN float padded[kTokens][kSumLanes] = {};
  const float* padded_x[kTokens] = {};
  for (int t = 0; t < n_tokens; ++t) {
    std::memcpy(padded[t], x[t], static_cast<size_t>(n_cols) * sizeof(float));
    padded_x[t] = padded[t];
  }
  Ahead nothing;
  DotTokens(n_tokens, w, padded_x, kSumLanes, nothing, sums);
}

HWY_INLINE void AddColumns(const Job& job, const Block& block, const float* w, Ahead& ahead,
                           float* sums) {
  const int64_t n_whole = block.n_cols / kSumLanes * kSumLanes, n_tail = block.n_cols - n_whole;
  for (int64_t t = 0; t < block.n_tokens; t += kTokens) {
    const int n = static_cast<int>(std::min<int64_t>(kTokens, block.n_tokens - t));
    const float* x[kTokens] = {};
    const float* x_tail[kTokens] = {};
    for (int i = 0; i < n; ++i) {
      x[i] = job.x.f32_row(block.t0 + t + i) + block.c0;
      x_tail[i] = x[i] + n_whole;
    }
    for (int r = 0; r < block.n_rows; r += kRows) {
      float* tile_sums = sums + (t * kRowBlock + r) * kSumLanes;
      const float* tile_w = w + r * kColStride;
      DotTokens(n, tile_w, x, n_whole, ahead, tile_sums);
      if (n_tail > 0) DotTail(n, tile_w + n_whole, x_tail, n_tail, tile_sums);
    }
  }
}

HWY_INLINE void StoreTotals(const Job& job, const Block& block, const float* sums) {
  for (int64_t t = 0; t < block.n_tokens; ++t) {
    float totals[kRowBlock];
    for (int r = 0; r < kRowBlock; r += 4) {
      FourTotals(sums + (t * kRowBlock + r) * kSumLanes, totals + r);
    }
    for (int r = 0; r < block.n_rows; ++r) job.Store(block.t0 + t, block.r0 + r, totals[r]);
  }
}

// What is decoded after `block`: the next columns of its rows, or the next rows up to `end`.
template <typename D>
HWY_INLINE Ahead NextBlock(const Job& job, const Block& block, int64_t end) {
  const int64_t n_tiles = (block.n_tokens + kTokens - 1) / kTokens * (kRowBlock / kRows);
  const int64_t n_steps = n_tiles * (block.n_cols / kSumLanes);
  const int64_t c = block.c0 + block.n_cols;
  const bool same_rows = c < job.w.n_cols;
  const int64_t row = same_rows ? block.r0 : block.r0 + kRowBlock, col = same_rows ? c : 0;
  const int64_t n_rows = std::clamp<int64_t>(end - row, 0, kRowBlock);
  const auto bytes = [](int64_t n) {
    return static_cast<int64_t>(RowBytes(D::kDType, static_cast<uint64_t>(n)));
  };
  return {job.w.row(row) + bytes(col), job.w.row_stride_bytes, n_rows,
          bytes(std::min(kColBlock, job.w.n_cols - col)), n_steps};
}

// Any number of tokens and columns: rows are decoded to scratch once per kTokenBlock tokens.
template <typename D>
HWY_NOINLINE void ManyTokens(const Job& job, int64_t begin, int64_t end, float* scratch) {
  float* const w = scratch;
  float* const sums = scratch + kRowBlock * kColStride;
  for (int64_t t0 = 0; t0 < job.x.n_rows; t0 += kTokenBlock) {
    Block block = {};
    block.t0 = t0;
    block.n_tokens = std::min(kTokenBlock, job.x.n_rows - t0);
    for (block.r0 = begin; block.r0 < end; block.r0 += kRowBlock) {
      block.n_rows = static_cast<int>(std::min<int64_t>(kRowBlock, end - block.r0));
      std::fill_n(sums, block.n_tokens * kRowBlock * kSumLanes, 0.0f);
      for (block.c0 = 0; block.c0 < job.w.n_cols; block.c0 += kColBlock) {
        block.n_cols = std::min(kColBlock, job.w.n_cols - block.c0);
        const uint64_t offset = RowBytes(D::kDType, static_cast<uint64_t>(block.c0));
        for (int r = 0; r < block.n_rows; ++r) {
          DecodeRun<D>(job.w_row(block.r0 + r) + offset, block.n_cols, w + r * kColStride);
        }
        Ahead ahead = NextBlock<D>(job, block, end);
        AddColumns(job, block, w, ahead, sums);
      }
      StoreTotals(job, block, sums);
    }
  }
}

HWY_NOINLINE void Run(CpuContext& context, const Job& job) {
  const bool is_whole = job.w.n_cols % kGroupElems == 0;
  const int64_t n_tokens = job.x.n_rows;
  const int64_t min_rows = MinItems(job.w.n_cols * std::max<int64_t>(1, job.x.n_rows));
  ForParts(context, job.w.n_rows, kRowBlock, min_rows, [&](int64_t begin, int64_t end, int thread) {
    WithDType(job.w.dtype, [&](auto decoder) {
      using D = decltype(decoder);
      if (is_whole && n_tokens <= kFewTokens) return FewTokens<D>(job, begin, end);
      ManyTokens<D>(job, begin, end, context.thread_scratch(thread));
    });
  });
}

}  // namespace

void FileMatMul(CpuContext& context, TensorView w, TensorView x, const float* bias, TensorView y) {
  Run(context, {w, x, bias, y});
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(FileMatMul);

namespace {

void OneTokenMatMul(CpuContext& context, TensorView w, const std::byte* x, const float* bias,
                    TensorView y) {
  ForParts(context, w.n_rows, 1, MinItems(w.n_cols), [&](int64_t begin, int64_t end, int) {
    DotOneToken(w, x, bias, y.f32_row(0), begin, end);
  });
}

void LanesMatMul(CpuContext& context, TensorView w, TensorView x, const float* bias, TensorView y) {
  const TokenRows tokens = TokenRows::Rounded(context, x);
  if (x.n_rows == 1) return OneTokenMatMul(context, w, tokens.row(0), bias, y);
  const int64_t min_rows = MinItems(w.n_cols * std::max<int64_t>(1, x.n_rows));
  constexpr int64_t kGranule = 8;  // rows that the many-token kernel unpacks together
  // Beyond, unpacking a row once for all tokens pays for keeping it unpacked in a cache.
  constexpr int64_t kFewTokens = 4;
  ForParts(context, w.n_rows, kGranule, min_rows, [&](int64_t begin, int64_t end, int thread) {
    if (x.n_rows <= kFewTokens) return DotLanesFewTokens(w, tokens, bias, y, begin, end);
    DotLanesTokens(w, tokens, bias, y, begin, end, context.thread_scratch(thread));
  });
}

}  // namespace

void MatMul(CpuContext& context, TensorView w, TensorView x, TensorView bias, TensorView y) {
  DCHECK(w.n_cols == x.n_cols && y.n_cols == w.n_rows && x.n_rows == y.n_rows);
  const float* b = bias.empty() ? nullptr : bias.f32_row(0);
  if (w.layout == RowLayout::kLanes) return LanesMatMul(context, w, x, b, y);
  if (x.n_rows == 1) return OneTokenMatMul(context, w, x.row(0), b, y);
  HWY_DYNAMIC_DISPATCH(FileMatMul)(context, w, x, b, y);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
