// What sums of scaled rows have in common, whatever the layout of the rows, for the instruction set
// being compiled. Included once per instruction set by the op files, after hwy/foreach_target.h.
//
// Each sum is one chain in the order of the neurons; leaving out a factor of 0 changes no bit of it
// but the sign of a zero, and adding +0 at the end makes that one +0 too. So the full list, the
// active list, any batch and any split of the columns give the same bits.
#if defined(TC_KERNELS_CPU_AXPY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TC_KERNELS_CPU_AXPY_INL_H_
#undef TC_KERNELS_CPU_AXPY_INL_H_
#else
#define TC_KERNELS_CPU_AXPY_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/context.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using TileF = hn::CappedTag<float, 16>;
using TileVF = hn::Vec<TileF>;
constexpr int kTileLanes = static_cast<int>(hn::MaxLanes(TileF()));

// Columns that one thread takes at the least, and that a tile has: whole blocks of every type.
constexpr int64_t kAxpyCols = 256;
// Neurons per pass of the one-token kernels: one load and store of a sum serves this many.
constexpr int kAxpyNeurons = 4;
// Tile of the many-token kernels: 16 decoded neurons, 16 KiB, which stay in an L1 cache, and the
// sums of 128 tokens, 128 KiB, which stream from an L2 cache. Rows are decoded once per tile.
constexpr int64_t kNeuronBlock = 16;
constexpr int64_t kTokenBlock = 128;
static_assert(kAxpyCols * (kNeuronBlock + kTokenBlock) <= kScratchFloats);

struct AxpyJob {
  TensorView w, a;
  ActiveIds active;
  const float* bias;  // null: none
  TensorView y;

  int64_t n_active() const { return active.count(w.n_rows); }
  const uint8_t* w_row(int64_t position) const {
    return reinterpret_cast<const uint8_t*>(w.row(active.id(position)));
  }
  float factor(int64_t t, int64_t position) const { return a.f32_row(t)[active.id(position)]; }
};

// Tokens [first, first + n) of a job and their factors, packed as the tiles of all columns want
// them: [block of neurons][token][neuron], 0 beyond the end of the list.
struct TokenBlock {
  int64_t first = 0;
  int64_t n = 0;
  const float* factors = nullptr;

  const float* FactorsOf(int64_t block) const { return factors + block * n * kNeuronBlock; }
};

HWY_INLINE int64_t NeuronBlocks(const AxpyJob& job) {
  return (job.n_active() + kNeuronBlock - 1) / kNeuronBlock;
}

// Packs one block of neurons.
HWY_INLINE void PackFactors(const AxpyJob& job, const TokenBlock& tokens, int64_t block,
                            float* packed) {
  int32_t ids[kNeuronBlock];
  const int64_t first = block * kNeuronBlock;
  const int64_t n = std::min(kNeuronBlock, job.n_active() - first);
  for (int64_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>(job.active.id(first + i));
  for (int64_t t = 0; t < tokens.n; ++t, packed += kNeuronBlock) {
    const float* const a = job.a.f32_row(tokens.first + t);
    for (int64_t i = 0; i < n; ++i) packed[i] = a[ids[i]];
    std::fill(packed + n, packed + kNeuronBlock, 0.0f);
  }
}

// Items of a row that a part should have at least. For one token every thread has one part: a row
// is then met in as few pieces as can be, and long pieces come from memory faster than the help
// that a slow thread gets by smaller parts is worth.
HWY_INLINE int64_t LeastPart(const CpuContext& context, int64_t n_items, int64_t n_tokens) {
  const int64_t n_threads = context.pool->n_threads();
  return n_tokens == 1 ? (n_items + n_threads - 1) / n_threads : 1;
}

// Calls use(tokens) for all tokens of a job, kTokenBlock at a time.
template <typename Use>
HWY_INLINE void ForTokenBlocks(CpuContext& context, const AxpyJob& job, Use use) {
  const int64_t n_blocks = NeuronBlocks(job);
  for (int64_t t0 = 0; t0 < job.y.n_rows; t0 += kTokenBlock) {
    const int64_t n = std::min(kTokenBlock, job.y.n_rows - t0);
    // Room for every neuron: how many are active differs from step to step.
    auto* const packed = reinterpret_cast<float*>(context.axpy_factors.Reserve(
        sizeof(float) * static_cast<size_t>((job.a.n_cols + kNeuronBlock) * n)));
    const TokenBlock tokens = {t0, n, packed};
    ForParts(context, n_blocks, 1, MinItems(n * kNeuronBlock),
             [&](int64_t begin, int64_t end, int) {
               for (int64_t block = begin; block < end; ++block) {
                 PackFactors(job, tokens, block, packed + block * n * kNeuronBlock);
               }
             });
    use(tokens);
  }
}

// Fetches lines into the L2 cache: an L1 cache has too few line buffers to wait for memory in.
HWY_INLINE void FetchLines(const uint8_t* at, int64_t n_bytes) {
  constexpr int kRead = 0, kIntoL2 = 2;
  for (int64_t i = 0; i < n_bytes; i += 64) __builtin_prefetch(at + i, kRead, kIntoL2);
}

// sums[n][kAxpyCols] += factors[n][kNeuronBlock] x w[n_neurons][kAxpyCols].
template <int n>
HWY_INLINE void AddDense(const float* w, int64_t n_neurons, const float* factors, float* sums) {
  constexpr int kWide = 4;
  for (int64_t c = 0; c < kAxpyCols; c += kWide * kTileLanes) {
    TileVF tile[n][kWide];
    for (int t = 0; t < n; ++t) {
      for (int v = 0; v < kWide; ++v) {
        tile[t][v] = hn::LoadU(TileF(), sums + t * kAxpyCols + c + v * kTileLanes);
      }
    }
    for (int64_t i = 0; i < n_neurons; ++i) {
      TileVF w_vec[kWide];
      for (int v = 0; v < kWide; ++v) {
        w_vec[v] = hn::LoadU(TileF(), w + i * kAxpyCols + c + v * kTileLanes);
      }
      for (int t = 0; t < n; ++t) {
        const TileVF factor = hn::Set(TileF(), factors[t * kNeuronBlock + i]);
        for (int v = 0; v < kWide; ++v) tile[t][v] = hn::MulAdd(w_vec[v], factor, tile[t][v]);
      }
    }
    for (int t = 0; t < n; ++t) {
      for (int v = 0; v < kWide; ++v) {
        hn::StoreU(tile[t][v], TileF(), sums + t * kAxpyCols + c + v * kTileLanes);
      }
    }
  }
}

// The same for one token and the neurons whose bit is set: half of the registers hold sums, so that
// the bits, which no branch predictor knows, are walked as few times as can be: once with AVX-512.
HWY_INLINE void AddListed(const float* w, uint32_t listed, const float* factors, float* sums) {
  constexpr int kWide = kTileLanes == 16 ? 16 : 8;
  for (int64_t c = 0; c < kAxpyCols; c += kWide * kTileLanes) {
    TileVF tile[kWide];
    for (int v = 0; v < kWide; ++v) tile[v] = hn::LoadU(TileF(), sums + c + v * kTileLanes);
    for (uint32_t left = listed; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      const TileVF factor = hn::Set(TileF(), factors[i]);
      const float* row = w + i * kAxpyCols + c;
      for (int v = 0; v < kWide; ++v) {
        tile[v] = hn::MulAdd(hn::LoadU(TileF(), row + v * kTileLanes), factor, tile[v]);
      }
    }
    for (int v = 0; v < kWide; ++v) hn::StoreU(tile[v], TileF(), sums + c + v * kTileLanes);
  }
}

// Bit i: factor i of the block is not 0.
HWY_INLINE uint32_t NonZeros(const float* factors) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < kNeuronBlock; i += kTileLanes) {
    const auto is_not_zero = hn::Ne(hn::LoadU(TileF(), factors + i), hn::Zero(TileF()));
    uint8_t bytes[8] = {};
    hn::StoreMaskBits(TileF(), is_not_zero, bytes);
    uint32_t word;
    std::memcpy(&word, bytes, sizeof word);
    bits |= word << i;
  }
  return bits;
}

// All tokens, pairs of them where hardly a factor is 0. `between(t)` is called before token t.
template <typename Between>
HWY_INLINE void AddTokens(const float* w, int64_t n_neurons, const float* factors, int64_t n_tokens,
                          float* sums, Between between) {
  const auto is_dense = [&](uint32_t bits) { return 8 * std::popcount(bits) >= 7 * n_neurons; };
  uint32_t next = NonZeros(factors);
  for (int64_t t = 0; t < n_tokens; ++t) {
    between(t);
    const float* own = factors + t * kNeuronBlock;
    const uint32_t bits = next;
    next = t + 1 < n_tokens ? NonZeros(own + kNeuronBlock) : 0;
    if (is_dense(bits) && is_dense(next)) {
      AddDense<2>(w, n_neurons, own, sums + t * kAxpyCols);
      between(++t);
      next = t + 1 < n_tokens ? NonZeros(own + 2 * kNeuronBlock) : 0;
    } else {
      AddListed(w, bits, own, sums + t * kAxpyCols);
    }
  }
}

// One tile of columns for a block of tokens. Columns says how rows are read:
// Slice(row): where the tile's columns begin; slice_bytes(): what to fetch for them;
// Decode(row, w): their weights; Finish(job, t, sums): stores y.
template <typename Columns>
HWY_INLINE void AddTile(const AxpyJob& job, const TokenBlock& tokens, const Columns& columns,
                        float* scratch) {
  float* const w = scratch;
  float* const sums = w + kNeuronBlock * kAxpyCols;
  std::fill_n(sums, tokens.n * kAxpyCols, 0.0f);
  const int64_t n_active = job.n_active();
  int64_t fetched = 0;
  for (int64_t block = 0; block < NeuronBlocks(job); ++block) {
    const int64_t first = block * kNeuronBlock;
    const int64_t n = std::min(kNeuronBlock, n_active - first);
    for (int64_t i = 0; i < n; ++i) columns.Decode(job.w_row(first + i), w + i * kAxpyCols);
    // The next block was fetched during the last one; that after it is fetched now, evenly.
    fetched = std::max(fetched, first + kNeuronBlock);
    AddTokens(w, n, tokens.FactorsOf(block), tokens.n, sums, [&](int64_t t) {
      const int64_t goal = first + 2 * kNeuronBlock + kNeuronBlock * (t + 1) / tokens.n;
      for (; fetched < std::min(goal, n_active); ++fetched) {
        FetchLines(columns.Slice(job.w_row(fetched)), columns.slice_bytes());
      }
    });
  }
  for (int64_t t = 0; t < tokens.n; ++t) {
    columns.Finish(job, tokens.first + t, sums + t * kAxpyCols);
  }
}

// One token: add(position, n) adds n neurons, kAxpyNeurons at a time while there are as many.
template <typename Add>
HWY_INLINE void AddInGroups(const AxpyJob& job, Add add) {
  const int64_t n = job.n_active();
  int64_t i = 0;
  for (; i + kAxpyNeurons <= n; i += kAxpyNeurons) {
    add(i, std::integral_constant<int, kAxpyNeurons>());
  }
  for (; i < n; ++i) add(i, std::integral_constant<int, 1>());
}

// y = sum + 0 + bias.
HWY_INLINE float Finished(const AxpyJob& job, int64_t column, float sum) {
  return job.bias == nullptr ? sum + 0.0f : sum + 0.0f + job.bias[column];
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_AXPY_INL_H_
