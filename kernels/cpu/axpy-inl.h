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
static_assert(kNeuronBlock * kAxpyCols + kTokenBlock * (kAxpyCols + kNeuronBlock) <=
              kScratchFloats);

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

// The same for one token and the neurons whose bit is set: 8 sums hide a multiply-add's latency.
HWY_INLINE void AddListed(const float* w, uint32_t listed, const float* factors, float* sums) {
  constexpr int kWide = 8;
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
  const auto is_dense = [&](int64_t t) {
    return 8 * std::popcount(NonZeros(factors + t * kNeuronBlock)) >= 7 * n_neurons;
  };
  for (int64_t t = 0; t < n_tokens; ++t) {
    between(t);
    const float* own = factors + t * kNeuronBlock;
    if (t + 1 < n_tokens && is_dense(t) && is_dense(t + 1)) {
      AddDense<2>(w, n_neurons, own, sums + t * kAxpyCols);
      between(++t);
    } else {
      AddListed(w, NonZeros(own), own, sums + t * kAxpyCols);
    }
  }
}

// One tile of columns for tokens [t0, t0 + n_tokens). Columns says how rows are read:
// Slice(row): where the tile's columns begin; kSliceBytes: bytes to fetch for them;
// Decode(row, w): their weights; Finish(job, t, sums): stores y.
template <typename Columns>
HWY_INLINE void AddTile(const AxpyJob& job, const Columns& columns, int64_t t0, int64_t n_tokens,
                        float* scratch) {
  float* const sums = scratch;
  float* const w = sums + kTokenBlock * kAxpyCols;
  float* const factors = w + kNeuronBlock * kAxpyCols;
  std::fill_n(sums, n_tokens * kAxpyCols, 0.0f);
  const int64_t n_active = job.n_active();
  int64_t fetched = 0;
  for (int64_t first = 0; first < n_active; first += kNeuronBlock) {
    const int64_t n = std::min(kNeuronBlock, n_active - first);
    for (int64_t i = 0; i < n; ++i) columns.Decode(job.w_row(first + i), w + i * kAxpyCols);
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = 0; i < kNeuronBlock; ++i) {
        factors[t * kNeuronBlock + i] = i < n ? job.factor(t0 + t, first + i) : 0.0f;
      }
    }
    // The block after the next one is fetched meanwhile, evenly.
    const int64_t begin = first + kNeuronBlock, end = std::min(n_active, begin + 2 * kNeuronBlock);
    fetched = std::max(fetched, begin);
    AddTokens(w, n, factors, n_tokens, sums, [&](int64_t t) {
      const int64_t goal = end - kNeuronBlock + kNeuronBlock * (t + 1) / n_tokens;
      for (; fetched < std::min(goal, end); ++fetched) {
        FetchLines(columns.Slice(job.w_row(fetched)), columns.slice_bytes());
      }
    });
  }
  for (int64_t t = 0; t < n_tokens; ++t) columns.Finish(job, t0 + t, sums + t * kAxpyCols);
}

template <typename Columns>
HWY_INLINE void AddTiles(const AxpyJob& job, const Columns& columns, float* scratch) {
  for (int64_t t0 = 0; t0 < job.y.n_rows; t0 += kTokenBlock) {
    AddTile(job, columns, t0, std::min(kTokenBlock, job.y.n_rows - t0), scratch);
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
