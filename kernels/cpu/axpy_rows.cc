// Sums of weight rows scaled by activations, rows as files have them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/axpy_rows.cc"
#include <hwy/foreach_target.h>

#include <algorithm>

#include "kernels/cpu/axpy-inl.h"
#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Columns [begin, end), at most kAxpyCols of them.
template <typename D>
struct FileColumns {
  int64_t begin, end;

  HWY_INLINE const uint8_t* Slice(const uint8_t* row) const {
    return row + RowBytes(D::kDType, static_cast<uint64_t>(begin));
  }
  HWY_INLINE int64_t slice_bytes() const {
    return static_cast<int64_t>(RowBytes(D::kDType, static_cast<uint64_t>(end - begin)));
  }
  HWY_INLINE void Decode(const uint8_t* row, float* w) const {
    DecodeRun<D>(Slice(row), end - begin, w);
  }
  HWY_INLINE void Finish(const AxpyJob& job, int64_t t, const float* sums) const {
    float* const y = job.y.f32_row(t);
    for (int64_t c = begin; c < end; ++c) y[c] = Finished(job, c, sums[c - begin]);
  }
};

// y += the rows of n neurons for one token, columns [begin, end).
template <typename D, int n>
HWY_INLINE void AddNeurons(const AxpyJob& job, int64_t first, int64_t begin, int64_t end) {
  const uint64_t offset = RowBytes(D::kDType, static_cast<uint64_t>(begin));
  const int64_t last = job.n_active() - 1;
  const uint8_t* rows[n];
  const uint8_t* next[n];  // the rows of the next pass, fetched meanwhile
  VF factors[n];
  for (int i = 0; i < n; ++i) {
    rows[i] = job.w_row(first + i) + offset;
    next[i] = job.w_row(std::min(first + n + i, last)) + offset;
    factors[i] = hn::Set(DF(), job.factor(0, first + i));
  }
  float* y = job.y.f32_row(0) + begin;
  float* const y_end = job.y.f32_row(0) + end;
  while (y < y_end) {
    typename D::State states[n];
    for (int i = 0; i < n; ++i) {
      states[i] = D::Prepare(rows[i]);
      FetchLines(next[i], D::kBlockBytes);
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
HWY_NOINLINE void OneToken(const AxpyJob& job, int64_t begin, int64_t end) {
  float* y = job.y.f32_row(0);
  std::fill(y + begin, y + end, 0.0f);
  AddInGroups(job, [&](int64_t first, auto n) { AddNeurons<D, n>(job, first, begin, end); });
  for (int64_t c = begin; c < end; ++c) y[c] = Finished(job, c, y[c]);
}

// Any number of tokens and columns.
template <typename D>
HWY_NOINLINE void ManyTokens(const AxpyJob& job, const TokenBlock& tokens, int64_t first,
                             int64_t last, float* scratch) {
  for (int64_t begin = first; begin < last; begin += kAxpyCols) {
    AddTile(job, tokens, FileColumns<D>{begin, std::min(last, begin + kAxpyCols)}, scratch);
  }
}

HWY_NOINLINE void Run(CpuContext& context, const AxpyJob& job) {
  const auto for_parts = [&](int64_t n_tokens, auto fn) {
    const int64_t n_products = std::max<int64_t>(1, job.n_active() * n_tokens);
    const int64_t min_cols =
        std::max(LeastPart(context, job.y.n_cols, n_tokens), MinItems(n_products));
    ForParts(context, job.y.n_cols, kAxpyCols, min_cols,
             [&](int64_t begin, int64_t end, int thread) {
               WithDType(job.w.dtype, [&](auto decoder) { fn(decoder, begin, end, thread); });
             });
  };
  if (job.y.n_rows == 1 && job.y.n_cols % kGroupElems == 0) {
    return for_parts(1, [&](auto decoder, int64_t begin, int64_t end, int) {
      OneToken<decltype(decoder)>(job, begin, end);
    });
  }
  ForTokenBlocks(context, job, [&](const TokenBlock& tokens) {
    for_parts(tokens.n, [&](auto decoder, int64_t begin, int64_t end, int thread) {
      float* const scratch = context.thread_scratch(thread);
      ManyTokens<decltype(decoder)>(job, tokens, begin, end, scratch);
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
  // Room for every neuron: how many are active differs from step to step.
  auto* words = reinterpret_cast<int32_t*>(
      context.adding_ids.Reserve(sizeof(int32_t) * static_cast<size_t>(a.n_cols + 1)));
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
