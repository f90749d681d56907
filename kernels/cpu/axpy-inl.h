// What sums of scaled rows have in common, whatever the layout of the rows, for the instruction set
// being compiled. Included once per instruction set by the op files, after hwy/foreach_target.h.
//
// Each chunk of kSumChunk neurons, by their places, is one chain in their order, which begins at 0
// and is added in F64, from +0 on, when a neuron of another chunk comes. Leaving out a factor of 0
// changes no bit of a chain but the sign of a zero, and chains of 0 change no sum. So the full
// list, the active list, any batch and any split of the columns give the same bits.
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

#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using TileF = hn::CappedTag<float, 16>;
using TileVF = hn::Vec<TileF>;
constexpr int kTileLanes = static_cast<int>(hn::MaxLanes(TileF()));

// Columns that one thread takes at the least, and that a tile has: whole blocks of every type.
constexpr int64_t kAxpyCols = 256;
// Neurons per pass of the one-token kernels, at most: one load and store of a sum serves this many.
constexpr int kAxpyNeurons = 4;
// Rows that are fetched ahead of a pass: those of the next lie in a cache.
constexpr int64_t kRowsAhead = 2 * kAxpyNeurons;
// Tile of the many-token kernels: 16 decoded neurons, 16 KiB, which stay in an L1 cache, and the
// sums of 128 tokens, 384 KiB, which stream from an L2 cache: those in F32 with each block of
// neurons, those in F64 with each chunk. Rows are decoded once per tile.
constexpr int64_t kNeuronBlock = 16;
constexpr int64_t kTokenBlock = 128;
static_assert(kAxpyCols * (kNeuronBlock + 3 * kTokenBlock) <= kScratchFloats);
// Columns whose sums a pass over the rows keeps for one token: 16 KiB in F32, for as long as
// neurons are of one chunk, and 32 KiB in F64, an L1 cache together.
constexpr int64_t kPassCols = 4096;

struct AxpyJob {
  TensorView w, a;
  ActiveIds active;
  AxpyOutput output;

  int64_t n_tokens() const { return a.n_rows; }
  int64_t n_cols() const { return w.n_cols; }
  int64_t n_active() const { return active.count(w.n_rows); }
  // Whether that neuron of the list is of another chunk than the one before it.
  bool begins_chunk(int64_t position) const {
    return position > 0 && active.id(position) / kSumChunk != active.id(position - 1) / kSumChunk;
  }
  // The sums of column `column` of token t.
  void Finish(int64_t t, int64_t column, double sum) const {
    if (!output.sums.empty()) {
      output.sums.row(t)[column] = sum;
      return;
    }
    if (!output.bias.empty()) sum += output.bias.f32_row(0)[column];
    output.y.f32_row(t)[column] = static_cast<float>(sum);
  }
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

// Sums of some columns on their way: of the neurons of the last chunk, and of those before.
struct ChunkSums {
  float* chunk;
  double* before;

  HWY_INLINE ChunkSums At(int64_t column) const { return {chunk + column, before + column}; }
  HWY_INLINE double Total(int64_t column) const {
    return before[column] + static_cast<double>(chunk[column]);
  }
};

// One vector of them: the chunk ends. Read from memory, where halves cost no shuffle.
template <typename DFloat>
HWY_INLINE void EndChunk(DFloat, ChunkSums sums) {
#if HWY_TARGET == HWY_SCALAR
  *sums.before += static_cast<double>(*sums.chunk);
#else
  const hn::Half<DFloat> half;
  const hn::Rebind<double, decltype(half)> wide;
  const auto lanes = static_cast<int64_t>(hn::Lanes(wide));
  for (int64_t c = 0; c < 2 * lanes; c += lanes) {
    const auto ended = hn::PromoteTo(wide, hn::LoadU(half, sums.chunk + c));
    hn::StoreU(hn::Add(hn::LoadU(wide, sums.before + c), ended), wide, sums.before + c);
  }
#endif
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
  for (int64_t t0 = 0; t0 < job.n_tokens(); t0 += kTokenBlock) {
    const int64_t n = std::min(kTokenBlock, job.n_tokens() - t0);
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

// Of a block of neurons in w[n][kAxpyCols].
struct NeuronTile {
  const float* w;
  int64_t n;
  uint32_t begins;  // bit i: neuron i begins a chunk

  // The first neuron from i on that does; n where none does.
  HWY_INLINE int64_t NextBegin(int64_t i) const {
    const uint32_t left = begins >> i << i;
    return left == 0 ? n : std::countr_zero(left);
  }
};

// sums[n][kAxpyCols] += factors[n][kNeuronBlock] x w.
template <int n>
HWY_INLINE void AddDense(const NeuronTile& neurons, const float* factors, ChunkSums sums) {
  constexpr int kWide = 4;
  const float* const w = neurons.w;
  for (int64_t c = 0; c < kAxpyCols; c += kWide * kTileLanes) {
    TileVF tile[n][kWide];
    for (int t = 0; t < n; ++t) {
      for (int v = 0; v < kWide; ++v) {
        tile[t][v] = hn::LoadU(TileF(), sums.chunk + t * kAxpyCols + c + v * kTileLanes);
      }
    }
    for (int64_t i = 0, end = neurons.NextBegin(0);; end = neurons.NextBegin(i + 1)) {
      for (; i < end; ++i) {
        TileVF w_vec[kWide];
        for (int v = 0; v < kWide; ++v) {
          w_vec[v] = hn::LoadU(TileF(), w + i * kAxpyCols + c + v * kTileLanes);
        }
        for (int t = 0; t < n; ++t) {
          const TileVF factor = hn::Set(TileF(), factors[t * kNeuronBlock + i]);
          for (int v = 0; v < kWide; ++v) tile[t][v] = hn::MulAdd(w_vec[v], factor, tile[t][v]);
        }
      }
      if (i == neurons.n) break;
      for (int t = 0; t < n; ++t) {
        for (int v = 0; v < kWide; ++v) {
          const ChunkSums at = sums.At(t * kAxpyCols + c + v * kTileLanes);
          hn::StoreU(tile[t][v], TileF(), at.chunk);
          EndChunk(TileF(), at);
          tile[t][v] = hn::Zero(TileF());
        }
      }
    }
    for (int t = 0; t < n; ++t) {
      for (int v = 0; v < kWide; ++v) {
        hn::StoreU(tile[t][v], TileF(), sums.chunk + t * kAxpyCols + c + v * kTileLanes);
      }
    }
  }
}

// The same for one token and the neurons whose bit is set: half of the registers hold sums, so that
// the bits, which no branch predictor knows, are walked as few times as can be: once with AVX-512.
HWY_INLINE void AddListed(const NeuronTile& neurons, uint32_t listed, const float* factors,
                          ChunkSums sums) {
  constexpr int kWide = kTileLanes == 16 ? 16 : 8;
  for (int64_t c = 0; c < kAxpyCols; c += kWide * kTileLanes) {
    TileVF tile[kWide];
    for (int v = 0; v < kWide; ++v) tile[v] = hn::LoadU(TileF(), sums.chunk + c + v * kTileLanes);
    for (int64_t begin = 0; begin < neurons.n;) {
      // The first neuron of the block may begin a chunk, or carry on the block before's.
      if (neurons.begins >> begin & 1) {
        for (int v = 0; v < kWide; ++v) {
          const ChunkSums at = sums.At(c + v * kTileLanes);
          hn::StoreU(tile[v], TileF(), at.chunk);
          EndChunk(TileF(), at);
          tile[v] = hn::Zero(TileF());
        }
      }
      const int64_t end = neurons.NextBegin(begin + 1);
      const uint32_t of_chunk = ((uint32_t{1} << end) - 1) >> begin << begin;
      for (uint32_t left = listed & of_chunk; left != 0; left &= left - 1) {
        const int i = std::countr_zero(left);
        const TileVF factor = hn::Set(TileF(), factors[i]);
        const float* row = neurons.w + i * kAxpyCols + c;
        for (int v = 0; v < kWide; ++v) {
          tile[v] = hn::MulAdd(hn::LoadU(TileF(), row + v * kTileLanes), factor, tile[v]);
        }
      }
      begin = end;
    }
    for (int v = 0; v < kWide; ++v) hn::StoreU(tile[v], TileF(), sums.chunk + c + v * kTileLanes);
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
HWY_INLINE void AddTokens(const NeuronTile& neurons, const float* factors, int64_t n_tokens,
                          ChunkSums sums, Between between) {
  const auto is_dense = [&](uint32_t bits) { return 8 * std::popcount(bits) >= 7 * neurons.n; };
  uint32_t next = NonZeros(factors);
  for (int64_t t = 0; t < n_tokens; ++t) {
    between(t);
    const float* own = factors + t * kNeuronBlock;
    const uint32_t bits = next;
    next = t + 1 < n_tokens ? NonZeros(own + kNeuronBlock) : 0;
    if (is_dense(bits) && is_dense(next)) {
      AddDense<2>(neurons, own, sums.At(t * kAxpyCols));
      between(++t);
      next = t + 1 < n_tokens ? NonZeros(own + 2 * kNeuronBlock) : 0;
    } else {
      AddListed(neurons, bits, own, sums.At(t * kAxpyCols));
    }
  }
}

// One tile of columns for a block of tokens. Columns says how rows are read:
// Slice(row): where the tile's columns begin; slice_bytes(): what to fetch for them;
// Decode(row, w): their weights; Finish(job, t, sums): stores the token's.
template <typename Columns>
HWY_INLINE void AddTile(const AxpyJob& job, const TokenBlock& tokens, const Columns& columns,
                        float* scratch) {
  float* const w = scratch;
  float* const chunk = w + kNeuronBlock * kAxpyCols;
  const ChunkSums sums = {chunk, reinterpret_cast<double*>(chunk + kTokenBlock * kAxpyCols)};
  std::fill_n(sums.chunk, tokens.n * kAxpyCols, 0.0f);
  std::fill_n(sums.before, tokens.n * kAxpyCols, 0.0);
  const int64_t n_active = job.n_active();
  int64_t fetched = 0;
  for (int64_t block = 0; block < NeuronBlocks(job); ++block) {
    const int64_t first = block * kNeuronBlock;
    const int64_t n = std::min(kNeuronBlock, n_active - first);
    NeuronTile neurons = {w, n, 0};
    for (int64_t i = 0; i < n; ++i) {
      columns.Decode(job.w_row(first + i), w + i * kAxpyCols);
      neurons.begins |= uint32_t{job.begins_chunk(first + i)} << i;
    }
    // The next block was fetched during the last one; that after it is fetched now, evenly.
    fetched = std::max(fetched, first + kNeuronBlock);
    AddTokens(neurons, tokens.FactorsOf(block), tokens.n, sums, [&](int64_t t) {
      const int64_t goal = first + 2 * kNeuronBlock + kNeuronBlock * (t + 1) / tokens.n;
      for (; fetched < std::min(goal, n_active); ++fetched) {
        FetchLines(columns.Slice(job.w_row(fetched)), columns.slice_bytes());
      }
    });
  }
  for (int64_t t = 0; t < tokens.n; ++t) {
    columns.Finish(job, tokens.first + t, sums.At(t * kAxpyCols));
  }
}

// Neurons of one chunk that the one-token kernels add in a pass.
template <int n>
struct NeuronPass {
  int64_t first;      // position in the list
  bool begins_chunk;  // the sums so far are added to those before

  int64_t RowAhead(int i, int64_t n_active) const {
    return std::min(first + kRowsAhead + i, n_active - 1);
  }
};

// Calls add(pass) with n neurons, of 1 to kAxpyNeurons.
template <typename Add>
HWY_INLINE void AddPass(int64_t n, int64_t first, bool begins_chunk, Add& add) {
  static_assert(kAxpyNeurons == 4);
  switch (n) {
    case 1:
      return add(NeuronPass<1>{first, begins_chunk});
    case 2:
      return add(NeuronPass<2>{first, begins_chunk});
    case 3:
      return add(NeuronPass<3>{first, begins_chunk});
    default:
      return add(NeuronPass<4>{first, begins_chunk});
  }
}

// One token: add(pass) adds the neurons of a pass. Those of a chunk are dealt to as few passes as
// can be, evenly: rows of one pass come from memory side by side.
template <typename Add>
HWY_INLINE void AddInPasses(const AxpyJob& job, Add add) {
  const int64_t n_active = job.n_active();
  for (int64_t first = 0; first < n_active;) {
    int64_t end = first + 1;
    while (end < n_active && !job.begins_chunk(end)) ++end;
    bool begins_chunk = first > 0;
    for (int64_t n_passes = (end - first + kAxpyNeurons - 1) / kAxpyNeurons; n_passes > 0;
         --n_passes) {
      const int64_t n = (end - first + n_passes - 1) / n_passes;
      AddPass(n, first, begins_chunk, add);
      begins_chunk = false;
      first += n;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_AXPY_INL_H_
