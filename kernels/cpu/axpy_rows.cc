// Sums of weight rows scaled by activations.
//
// Each output is one chain: +0, then one multiply-add per neuron in ascending order. A neuron whose
// activation is 0 adds a zero of some sign, which changes no sum but -0; adding +0 at the end makes
// that one +0 too. So the full list, the active list and any batch give the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/axpy_rows.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/cpu/axpy_tile-inl.h"
#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Neurons per pass of the one-token kernel: one load and store of y serves this many.
constexpr int kNeurons = 4;

// Tile of the many-token kernel: 16 decoded rows of 256 columns and the sums of 32 tokens, 16 and
// 32 KiB. 256 columns are whole blocks of every type.
constexpr int64_t kColBlock = 256;
constexpr int64_t kNeuronBlock = 16;
constexpr int64_t kTokenBlock = 32;
static_assert(kNeuronBlock * kColBlock + kTokenBlock * (kColBlock + kNeuronBlock) <=
              kScratchFloats);

struct Job {
  TensorView w, a;
  ActiveIds active;
  const float* bias;  // null: none
  TensorView y;

  int64_t n_active() const { return active.count(w.n_rows); }
  const uint8_t* w_row(int64_t i, int64_t column) const {
    return reinterpret_cast<const uint8_t*>(w.row(i)) +
           RowBytes(w.dtype, static_cast<uint64_t>(column));
  }
};

// y[c] = sums[c] + 0 + bias[c] for columns [begin, end). y may be sums.
HWY_INLINE void Finish(const Job& job, int64_t t, int64_t begin, int64_t end, const float* sums) {
  float* y = job.y.f32_row(t);
  for (int64_t c = begin; c < end; ++c) {
    const float sum = sums[c - begin] + 0.0f;
    y[c] = job.bias == nullptr ? sum : sum + job.bias[c];
  }
}

// y += the rows of n neurons for one token, columns [begin, end).
template <typename D, int n>
HWY_INLINE void AddNeurons(const Job& job, int64_t first, int64_t begin, int64_t end) {
  const uint8_t* rows[n];
  VF factors[n];
  const int64_t last = job.n_active() - 1;
  const uint8_t* next[n];  // the rows of the next pass, fetched meanwhile
  for (int i = 0; i < n; ++i) {
    const int64_t id = job.active.id(first + i);
    rows[i] = job.w_row(id, begin);
    next[i] = job.w_row(job.active.id(std::min(first + n + i, last)), begin);
    factors[i] = hn::Set(DF(), job.a.f32_row(0)[id]);
  }
  float* y = job.y.f32_row(0) + begin;
  float* const y_end = job.y.f32_row(0) + end;
  while (y < y_end) {
    typename D::State states[n];
    for (int i = 0; i < n; ++i) {
      states[i] = D::Prepare(rows[i]);
      for (int at = 0; at < D::kBlockBytes; at += 64) hwy::Prefetch(next[i] + at);
      next[i] += D::kBlockBytes;
    }
    for (int g = 0; g < D::kGroups; ++g, y += kGroupElems) {
      Group sum = LoadGroup(y);
      for (int i = 0; i < n; ++i) {
        const Group w = D::Decode(states[i], rows[i], g);
        for (int v = 0; v < kVecs; ++v) sum.v[v] = hn::MulAdd(w.v[v], factors[i], sum.v[v]);
      }
      StoreGroup(sum, y);
    }
    for (int i = 0; i < n; ++i) rows[i] += D::kBlockBytes;
  }
}

// One token, whole blocks, weights decoded in registers, sums kept in y.
template <typename D>
HWY_NOINLINE void OneToken(const Job& job, int64_t begin, int64_t end) {
  float* y = job.y.f32_row(0);
  std::fill(y + begin, y + end, 0.0f);
  const int64_t n = job.n_active();
  int64_t i = 0;
  for (; i + kNeurons <= n; i += kNeurons) AddNeurons<D, kNeurons>(job, i, begin, end);
  for (; i < n; ++i) AddNeurons<D, 1>(job, i, begin, end);
  Finish(job, 0, begin, end, y + begin);
}

// Decodes neurons [first, first + n) and gathers their factors, then adds them to the sums.
template <typename D>
HWY_INLINE void AddNeuronBlock(const Job& job, int64_t first, int64_t n, int64_t begin, int64_t end,
                               int64_t t0, int64_t n_tokens, float* scratch) {
  float* const sums = scratch;
  float* const w = sums + kTokenBlock * kColBlock;
  float* const factors = w + kNeuronBlock * kColBlock;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t id = job.active.id(first + i);
    DecodeRun<D>(job.w_row(id, begin), end - begin, w + i * kColBlock);
    for (int64_t t = 0; t < n_tokens; ++t) {
      factors[t * kNeuronBlock + i] = job.a.f32_row(t0 + t)[id];
    }
  }
  AxpyTile<kColBlock, kNeuronBlock>::AddTokens(w, n, factors, n_tokens, sums);
}

// Any number of tokens and columns.
template <typename D>
HWY_NOINLINE void ManyTokens(const Job& job, int64_t first_col, int64_t end_col, float* scratch) {
  for (int64_t begin = first_col; begin < end_col; begin += kColBlock) {
    const int64_t end = std::min(end_col, begin + kColBlock);
    for (int64_t t0 = 0; t0 < job.y.n_rows; t0 += kTokenBlock) {
      const int64_t n_tokens = std::min(kTokenBlock, job.y.n_rows - t0);
      std::fill_n(scratch, kTokenBlock * kColBlock, 0.0f);
      for (int64_t i = 0; i < job.n_active(); i += kNeuronBlock) {
        const int64_t n = std::min(kNeuronBlock, job.n_active() - i);
        AddNeuronBlock<D>(job, i, n, begin, end, t0, n_tokens, scratch);
      }
      for (int64_t t = 0; t < n_tokens; ++t) {
        Finish(job, t0 + t, begin, end, scratch + t * kColBlock);
      }
    }
  }
}

HWY_NOINLINE void Run(CpuContext& context, const Job& job) {
  const int64_t n_products = std::max<int64_t>(1, job.n_active() * job.y.n_rows);
  const bool one_token = job.y.n_rows == 1 && job.y.n_cols % kGroupElems == 0;
  ForParts(context, job.y.n_cols, kColBlock, MinItems(n_products),
           [&](int64_t begin, int64_t end, int thread) {
             WithDType(job.w.dtype, [&](auto decoder) {
               using D = decltype(decoder);
               if (one_token) return OneToken<D>(job, begin, end);
               ManyTokens<D>(job, begin, end, context.thread_scratch(thread));
             });
           });
}

}  // namespace

void FileAxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
                  TensorView bias, TensorView y) {
  Run(context, {w, a, active, bias.empty() ? nullptr : bias.f32_row(0), y});
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(FileAxpyRows);

ActiveIds WithoutZeros(CpuContext& context, TensorView a, ActiveIds active) {
  if (active.all()) return active;
  const int64_t n = active.count(a.n_cols);
  auto* words = reinterpret_cast<int32_t*>(
      context.adding_ids.Reserve(sizeof(int32_t) * static_cast<size_t>(n + 1)));
  int32_t* const ids = words + 1;
  int32_t n_adding = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t id = active.ids[i];
    bool adds = false;
    for (int64_t t = 0; t < a.n_rows && !adds; ++t) adds = a.f32_row(t)[id] != 0.0f;
    ids[n_adding] = id;
    n_adding += adds ? 1 : 0;
  }
  words[0] = n_adding;
  return {ids, words, static_cast<int32_t>(n)};
}

void AxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active, TensorView bias,
              TensorView y) {
  DCHECK(w.n_cols == y.n_cols && a.n_cols == w.n_rows && a.n_rows == y.n_rows);
  if (w.layout == RowLayout::kLanes) return AxpyLanes(context, w, a, active, bias, y);
  HWY_DYNAMIC_DISPATCH(FileAxpyRows)(context, w, a, active, bias, y);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
