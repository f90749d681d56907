// Dot products of weight rows with activations.
//
// Every (row, token) sum has one form: two chains of vectors, even and odd ones of the row in
// order, added once at the end. The kernels differ only in how many such sums they run side by
// side, so a result does not depend on them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/row_dot.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int kChains = 2;

// Tile of the many-token kernel. 4 rows x 3 tokens x 2 chains are 24 accumulators, and 32 registers
// hold them with their operands. 8 decoded rows of 1024 floats are 32 KiB, an L1 cache.
constexpr int kRows = 4;
constexpr int kTokens = 3;
constexpr int kRowBlock = 2 * kRows;
constexpr int64_t kColBlock = 1024;
constexpr int64_t kTokenBlock = 48;

// The accumulators of one (row, token) sum between column blocks.
constexpr int kSumFloats = kChains * kLanes;
static_assert(kRowBlock * kColBlock + kTokenBlock * kRowBlock * kSumFloats <= kScratchFloats);

struct Sum {
  VF chains[kChains];
};

HWY_INLINE void MulAddGroup(const Group& w, const Group& x, Sum& sum) {
  for (int v = 0; v < kVecs; ++v) {
    sum.chains[v % kChains] = hn::MulAdd(w.v[v], x.v[v], sum.chains[v % kChains]);
  }
}

HWY_INLINE float Total(const Sum& sum) {
  return hn::GetLane(hn::SumOfLanes(DF(), hn::Add(sum.chains[0], sum.chains[1])));
}

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

// One token, n rows of whole groups, weights decoded in registers.
template <typename D, int n>
HWY_INLINE void DotOneToken(const Job& job, int64_t first) {
  const uint8_t* rows[n];
  Sum sums[n];
  for (int r = 0; r < n; ++r) {
    rows[r] = job.w_row(first + r);
    for (VF& chain : sums[r].chains) chain = hn::Zero(DF());
  }
  const float* x = job.x.f32_row(0);
  const float* const x_end = x + job.w.n_cols;
  while (x < x_end) {
    typename D::State states[n];
    for (int r = 0; r < n; ++r) states[r] = D::Prepare(rows[r]);
    for (int g = 0; g < D::kGroups; ++g, x += kGroupElems) {
      const Group x_group = LoadGroup(x);
      for (int r = 0; r < n; ++r) MulAddGroup(D::Decode(states[r], rows[r], g), x_group, sums[r]);
    }
    for (int r = 0; r < n; ++r) rows[r] += D::kBlockBytes;
  }
  for (int r = 0; r < n; ++r) job.Store(0, first + r, Total(sums[r]));
}

template <typename D>
HWY_NOINLINE void OneToken(const Job& job, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + kRows <= end; i += kRows) {
    DotOneToken<D, kRows>(job, i);
  }
  for (; i < end; ++i) DotOneToken<D, 1>(job, i);
}

// Adds n_groups groups of kRows decoded rows and n tokens to their sums.
// w[kRows] with stride kColBlock; sums[n][kRowBlock].
template <int n>
HWY_INLINE void DotTile(const float* w, const float* const (&x)[kTokens], int64_t n_groups,
                        float* sums) {
  Sum tile[n][kRows];
  for (int t = 0; t < n; ++t) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kChains; ++c) {
        tile[t][r].chains[c] =
            hn::LoadU(DF(), sums + (t * kRowBlock + r) * kSumFloats + c * kLanes);
      }
    }
  }
  for (int64_t i = 0; i < n_groups * kGroupElems; i += kLanes * kChains) {
    for (int c = 0; c < kChains; ++c) {
      VF x_vec[n];
      for (int t = 0; t < n; ++t) x_vec[t] = hn::LoadU(DF(), x[t] + i + c * kLanes);
      for (int r = 0; r < kRows; ++r) {
        const VF w_vec = hn::LoadU(DF(), w + r * kColBlock + i + c * kLanes);
        for (int t = 0; t < n; ++t) {
          tile[t][r].chains[c] = hn::MulAdd(w_vec, x_vec[t], tile[t][r].chains[c]);
        }
      }
    }
  }
  for (int t = 0; t < n; ++t) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kChains; ++c) {
        hn::StoreU(tile[t][r].chains[c], DF(),
                   sums + (t * kRowBlock + r) * kSumFloats + c * kLanes);
      }
    }
  }
}

HWY_NOINLINE void DotTokens(int n_tokens, const float* w, const float* const (&x)[kTokens],
                            int64_t n_groups, float* sums) {
  switch (n_tokens) {
    case 1:
      return DotTile<1>(w, x, n_groups, sums);
    case 2:
      return DotTile<2>(w, x, n_groups, sums);
    default:
      return DotTile<kTokens>(w, x, n_groups, sums);
  }
}

// A block of rows [r0, r0 + n_rows), tokens [t0, t0 + n_tokens), columns [c0, c0 + n_cols).
struct Block {
  int64_t r0;
  int n_rows;
  int64_t t0, n_tokens, c0, n_cols;
};

// Adds the last, partial group of a row, padded with zeros on both sides.
HWY_INLINE void DotTail(int n_tokens, const float* w, const float* const (&x)[kTokens],
                        int64_t n_cols, float* sums) {
  HWY_ALIGN float padded[kTokens][kGroupElems] = {};
  const float* padded_x[kTokens] = {};
  for (int t = 0; t < n_tokens; ++t) {
    std::memcpy(padded[t], x[t], static_cast<size_t>(n_cols) * sizeof(float));
    padded_x[t] = padded[t];
  }
  DotTokens(n_tokens, w, padded_x, 1, sums);
}

HWY_INLINE void AddColumns(const Job& job, const Block& block, const float* w, float* sums) {
  const int64_t n_groups = block.n_cols / kGroupElems, n_tail = block.n_cols % kGroupElems;
  for (int64_t t = 0; t < block.n_tokens; t += kTokens) {
    const int n = static_cast<int>(std::min<int64_t>(kTokens, block.n_tokens - t));
    const float* x[kTokens] = {};
    const float* x_tail[kTokens] = {};
    for (int i = 0; i < n; ++i) {
      x[i] = job.x.f32_row(block.t0 + t + i) + block.c0;
      x_tail[i] = x[i] + n_groups * kGroupElems;
    }
    for (int r = 0; r < block.n_rows; r += kRows) {
      float* tile_sums = sums + (t * kRowBlock + r) * kSumFloats;
      const float* tile_w = w + r * kColBlock;
      DotTokens(n, tile_w, x, n_groups, tile_sums);
      if (n_tail > 0) DotTail(n, tile_w + n_groups * kGroupElems, x_tail, n_tail, tile_sums);
    }
  }
}

HWY_INLINE void StoreSums(const Job& job, const Block& block, const float* sums) {
  for (int64_t t = 0; t < block.n_tokens; ++t) {
    for (int r = 0; r < block.n_rows; ++r) {
      const float* from = sums + (t * kRowBlock + r) * kSumFloats;
      const Sum sum = {{hn::LoadU(DF(), from), hn::LoadU(DF(), from + kLanes)}};
      job.Store(block.t0 + t, block.r0 + r, Total(sum));
    }
  }
}

// Any number of tokens and columns: rows are decoded to scratch once per kTokenBlock tokens.
template <typename D>
HWY_NOINLINE void ManyTokens(const Job& job, int64_t begin, int64_t end, float* scratch) {
  float* const w = scratch;
  float* const sums = scratch + kRowBlock * kColBlock;
  for (int64_t t0 = 0; t0 < job.x.n_rows; t0 += kTokenBlock) {
    Block block = {};
    block.t0 = t0;
    block.n_tokens = std::min(kTokenBlock, job.x.n_rows - t0);
    for (int64_t i = begin; i < end; i += kRowBlock) {
      block.n_rows = static_cast<int>(std::min<int64_t>(kRowBlock, end - i));
      block.r0 = i;
      std::fill_n(sums, block.n_tokens * kRowBlock * kSumFloats, 0.0f);
      for (block.c0 = 0; block.c0 < job.w.n_cols; block.c0 += kColBlock) {
        block.n_cols = std::min(kColBlock, job.w.n_cols - block.c0);
        const uint64_t offset = RowBytes(D::kDType, static_cast<uint64_t>(block.c0));
        for (int r = 0; r < block.n_rows; ++r) {
          DecodeRun<D>(job.w_row(block.r0 + r) + offset, block.n_cols, w + r * kColBlock);
        }
        AddColumns(job, block, w, sums);
      }
      StoreSums(job, block, sums);
    }
  }
}

HWY_NOINLINE void Run(CpuContext& context, const Job& job) {
  const bool one_token = job.x.n_rows == 1 && job.w.n_cols % kGroupElems == 0;
  const int64_t min_rows = MinItems(job.w.n_cols * std::max<int64_t>(1, job.x.n_rows));
  ForParts(context, job.w.n_rows, kRowBlock, min_rows, [&](int64_t begin, int64_t end, int thread) {
    WithDType(job.w.dtype, [&](auto decoder) {
      using D = decltype(decoder);
      if (one_token) return OneToken<D>(job, begin, end);
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

void LanesMatMul(CpuContext& context, TensorView w, TensorView x, const float* bias, TensorView y) {
  const TokenRows tokens = TokenRows::Rounded(context, x);
  const int64_t min_rows = MinItems(w.n_cols * std::max<int64_t>(1, x.n_rows));
  constexpr int64_t kGranule = 8;  // rows that the many-token kernel unpacks together
  ForParts(context, w.n_rows, kGranule, min_rows, [&](int64_t begin, int64_t end, int thread) {
    if (x.n_rows == 1) return DotLanesOneToken(w, tokens.row(0), bias, y.f32_row(0), begin, end);
    DotLanesTokens(w, tokens, bias, y, begin, end, context.thread_scratch(thread));
  });
}

}  // namespace

void MatMul(CpuContext& context, TensorView w, TensorView x, TensorView bias, TensorView y) {
  DCHECK(w.n_cols == x.n_cols && y.n_cols == w.n_rows && x.n_rows == y.n_rows);
  const float* b = bias.empty() ? nullptr : bias.f32_row(0);
  if (w.layout == RowLayout::kLanes) return LanesMatMul(context, w, x, b, y);
  HWY_DYNAMIC_DISPATCH(FileMatMul)(context, w, x, b, y);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
