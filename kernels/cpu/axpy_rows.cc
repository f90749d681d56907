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
  HWY_INLINE void Finish(const AxpyJob& job, int64_t t, ChunkSums sums) const {
    for (int64_t c = begin; c < end; ++c) job.Finish(t, c, sums.Total(c - begin));
  }
};

// sums += the rows of n neurons for one token, columns [begin, end).
template <typename D, int n>
HWY_INLINE void AddNeurons(const AxpyJob& job, const NeuronPass<n>& pass, int64_t begin,
                           int64_t end, ChunkSums sums) {
  const uint64_t offset = RowBytes(D::kDType, static_cast<uint64_t>(begin));
  const uint8_t* rows[n];
  const uint8_t* ahead[n];  // rows of a later pass, fetched meanwhile
  VF factors[n];
  for (int i = 0; i < n; ++i) {
    rows[i] = job.w_row(pass.first + i) + offset;
    ahead[i] = job.w_row(pass.RowAhead(i, job.n_active())) + offset;
    factors[i] = hn::Set(DF(), job.factor(0, pass.first + i));
  }
  float* const sums_end = sums.chunk + (end - begin);
  while (sums.chunk < sums_end) {
    typename D::State states[n];
    for (int i = 0; i < n; ++i) {
      states[i] = D::Prepare(rows[i]);
      FetchLines(ahead[i], D::kBlockBytes);
      ahead[i] += D::kBlockBytes;
    }
    for (int g = 0; g < D::kGroups; ++g, sums = sums.At(kGroupElems)) {
      Group sum = LoadGroup(sums.chunk);
      if (pass.begins_chunk) {
        for (int v = 0; v < kVecs; ++v) {
          EndChunk(DF(), sums.At(v * kLanes));
          sum.v[v] = hn::Zero(DF());
        }
      }
      for (int i = 0; i < n; ++i) {
        const Group w = D::Decode(states[i], rows[i], g);
        for (int v = 0; v < kVecs; ++v) sum.v[v] = hn::MulAdd(w.v[v], factors[i], sum.v[v]);
      }
      StoreGroup(sum, sums.chunk);
    }
    for (int i = 0; i < n; ++i) rows[i] += D::kBlockBytes;
  }
}

// One token, whole blocks, weights decoded in registers.
template <typename D>
HWY_NOINLINE void OneToken(const AxpyJob& job, int64_t first_col, int64_t end_col, float* scratch) {
  const ChunkSums sums = {scratch, reinterpret_cast<double*>(scratch + kPassCols)};
  for (int64_t begin = first_col; begin < end_col; begin += kPassCols) {
    const int64_t end = std::min(end_col, begin + kPassCols);
    std::fill_n(sums.chunk, end - begin, 0.0f);
    std::fill_n(sums.before, end - begin, 0.0);
    AddInPasses(job, [&](const auto& pass) { AddNeurons<D>(job, pass, begin, end, sums); });
    FileColumns<D>{begin, end}.Finish(job, 0, sums);
  }
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
        std::max(LeastPart(context, job.n_cols(), n_tokens), MinItems(n_products));
    ForParts(context, job.n_cols(), kAxpyCols, min_cols,
             [&](int64_t begin, int64_t end, int thread) {
               float* const scratch = context.thread_scratch(thread);
               WithDType(job.w.dtype, [&](auto decoder) { fn(decoder, begin, end, scratch); });
             });
  };
  if (job.n_tokens() == 1 && job.n_cols() % kGroupElems == 0) {
    return for_parts(1, [&](auto decoder, int64_t begin, int64_t end, float* scratch) {
      OneToken<decltype(decoder)>(job, begin, end, scratch);
    });
  }
  ForTokenBlocks(context, job, [&](const TokenBlock& tokens) {
    for_parts(tokens.n, [&](auto decoder, int64_t begin, int64_t end, float* scratch) {
      ManyTokens<decltype(decoder)>(job, tokens, begin, end, scratch);
    });
  });
}

}  // namespace

void FileAxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
                  const AxpyOutput& output) {
  Run(context, {w, a, active, output});
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

void AxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
              const AxpyOutput& output) {
  DCHECK(a.n_cols == w.n_rows);
  DCHECK(w.n_cols == (output.sums.empty() ? output.y.n_cols : output.sums.n_cols));
  DCHECK(a.n_rows == (output.sums.empty() ? output.y.n_rows : output.sums.n_rows));
  if (w.layout == RowLayout::kLanes) return AxpyLanes(context, w, a, active, output);
  HWY_DYNAMIC_DISPATCH(FileAxpyRows)(context, w, a, active, output);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
