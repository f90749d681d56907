// Sums of neuron rows, each scaled by its activation: the down projection.
//
// A block owns 512 columns and a slice of the neurons; each of its warps adds some of them, in
// ascending order, its lanes 16 columns each. Eight warps' sums meet in shared memory, the slices'
// in a second kernel, both in a fixed order. Neurons are dealt to warps by their ids, 8 at a time,
// so that neither the length of the list nor where hot neurons lie matters to balance, and so that
// the order of a token's sum does not depend on what other tokens add. The number of slices depends
// on the shape only. Bytes: what the rows have, plus 4 * n_slices * n_embd out and in per token
// (0.5 MiB with 264 blocks, mostly in the L2 cache) where 10 % of 28672 rows of 8192 F16 are 47 MB.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/rows.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kAxpyWarps = 8;
inline constexpr int kAxpyThreads = kAxpyWarps * kWarp;
// Neurons that are dealt together: of neighbours few are active at once.
inline constexpr int kRun = 8;
// Neurons that a warp lists at a time: a run per lane.
inline constexpr int kListed = kRun * kWarp;
// Rows whose loads are under way at once.
inline constexpr int kAxpyAhead = 4;
inline constexpr int kAxpyTokens = 4;

// The first place of the list whose id is not below `id`.
TC_DEVICE int64_t LowerBound(const int32_t* ids, int64_t n, int64_t id) {
  int64_t begin = 0, end = n;
  while (begin < end) {
    const int64_t middle = (begin + end) / 2;
    if (ids[middle] < id) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// The sum of the lanes before this one, and of all.
TC_DEVICE int SumBefore(int value, int* total) {
  int sum = value;
  TC_UNROLL for (int d = 1; d < kWarp; d *= 2) {
    const int before = ShuffleUp(sum, d);
    if (Lane() >= d) sum += before;
  }
  *total = WarpSum(value);
  return sum - value;
}

// What a warp of AxpyKernel works on.
template <int kTokens>
struct AxpyPart {
  const AxpyJob& job;
  int64_t t0;
  int n_tokens;
  int64_t n_listed;  // of the active list; unused when all are

  TC_DEVICE bool IsAdding(int64_t id) const {
    bool is_adding = false;
    TC_UNROLL for (int t = 0; t < kTokens; ++t) {
      if (t < n_tokens) is_adding = is_adding || F32Row(job.a, t0 + t)[id] != 0.0f;
    }
    return is_adding;
  }
  // Lists the adding neurons of run `run`, at most kRun.
  TC_DEVICE int List(int64_t run, int32_t (&ids)[kRun]) const {
    const int64_t first = run * kRun, end = Min(first + kRun, job.w.n_rows);
    int n = 0;
    if (first >= end) return 0;
    if (job.active.ids == nullptr) {
      for (int64_t id = first; id < end; ++id) {
        if (IsAdding(id)) ids[n++] = static_cast<int32_t>(id);
      }
      return n;
    }
    for (int64_t i = LowerBound(job.active.ids, n_listed, first); i < n_listed; ++i) {
      const int32_t id = job.active.ids[i];
      if (id >= end) break;
      if (IsAdding(id)) ids[n++] = id;
    }
    return n;
  }
};

// Adds the rows of `ids` to the lane's sums, kAxpyAhead loads at a time.
template <DType kType, int kTokens>
TC_DEVICE void AddRows(const AxpyPart<kTokens>& part, const int32_t* ids, int n, int64_t unit,
                       int n_elems, bool is_fast, float (&sums)[kTokens][kLaneElems]) {
  using Unit = typename UnitOf<kType>::Type;
  const AxpyJob& job = part.job;
  const std::byte* const column = job.w.data + unit * kUnitBytes<kType>;
  for (int i0 = 0; i0 < n; i0 += kAxpyAhead) {
    Unit rows[kAxpyAhead];
    float factors[kAxpyAhead][kTokens] = {};
    TC_UNROLL for (int i = 0; i < kAxpyAhead; ++i) {
      const int32_t id = ids[Min(i0 + i, n - 1)];
      const std::byte* const row = column + id * job.w.row_stride_bytes;
      rows[i] = is_fast ? Unit::Load(row, Lane()) : Unit::LoadPart(row, n_elems, Lane());
      TC_UNROLL for (int t = 0; t < kTokens; ++t) {
        if (t < part.n_tokens) factors[i][t] = F32Row(job.a, part.t0 + t)[id];
      }
    }
    TC_UNROLL for (int i = 0; i < kAxpyAhead; ++i) {
      if (i0 + i >= n) break;
      float w[kLaneElems];
      rows[i].Decode(Lane(), w);
      TC_UNROLL for (int t = 0; t < kTokens; ++t) {
        if (factors[i][t] == 0.0f) continue;
        TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
          sums[t][k] = Fma(factors[i][t], w[k], sums[t][k]);
        }
      }
    }
  }
}

// The warps' sums of a token, in order, to the block's part of `partials`.
template <DType kType>
TC_DEVICE void JoinWarps(const float (&sums)[kLaneElems], float* shared, int n_elems,
                         float* partial) {
  using Unit = typename UnitOf<kType>::Type;
  TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
    shared[Warp() * kUnitElems + Unit::QuadColumn(Lane(), k / 4) + k % 4] = sums[k];
  }
  SyncBlock();
  for (int c = ThreadIndex(); c < n_elems; c += kAxpyThreads) {
    float sum = 0;
    TC_UNROLL for (int warp = 0; warp < kAxpyWarps; ++warp) sum += shared[warp * kUnitElems + c];
    partial[c] = sum;
  }
  SyncBlock();
}

// Block (unit of columns, slice, group of tokens).
template <DType kType, int kTokens>
TC_KERNEL AxpyKernel(AxpyJob job, bool is_aligned) {
  TC_SHARED int32_t listed[kAxpyWarps][kListed];
  TC_SHARED float shared[kAxpyWarps * kUnitElems];
  const int64_t unit = BlockIndex().x, slice = BlockIndex().y;
  const int64_t t0 = static_cast<int64_t>(BlockIndex().z) * kTokens;
  const int n_tokens = static_cast<int>(Min(kTokens, job.y.n_rows - t0));
  const int n_elems = static_cast<int>(Min(kUnitElems, job.y.n_cols - unit * kUnitElems));
  const AxpyPart<kTokens> part{job, t0, n_tokens,
                               job.active.ids == nullptr ? 0 : *job.active.n_active};
  const int64_t n_runs = (job.w.n_rows + kRun - 1) / kRun;
  const int64_t n_warps = static_cast<int64_t>(job.n_slices) * kAxpyWarps;
  int32_t* const mine = listed[Warp()];

  float sums[kTokens][kLaneElems] = {};
  uint64_t n_added = 0;
  for (int64_t run = slice * kAxpyWarps + Warp(); run < n_runs; run += n_warps * kWarp) {
    int32_t ids[kRun];
    const int n = part.List(run + Lane() * n_warps, ids);
    int total;
    const int before = SumBefore(n, &total);
    for (int i = 0; i < n; ++i) mine[before + i] = ids[i];
    SyncWarp();
    AddRows<kType, kTokens>(part, mine, total, unit, n_elems, is_aligned && n_elems == kUnitElems,
                            sums);
    n_added += static_cast<uint64_t>(total);
    SyncWarp();
  }
  TC_UNROLL for (int t = 0; t < kTokens; ++t) {
    if (t >= n_tokens) continue;
    JoinWarps<kType>(
        sums[t], shared, n_elems,
        job.partials + (slice * job.y.n_rows + t0 + t) * job.y.n_cols + unit * kUnitElems);
  }
  if (job.sums != nullptr && Lane() == 0 && unit == 0 && t0 == 0) {
    AtomicAdd(&job.sums->neuron_bytes, n_added * job.row_bytes);
    AtomicAdd(&job.sums->n_active, n_added);
  }
}

inline constexpr int kJoinThreads = 128;

// Block (columns, token): the slices in order, then the bias.
TC_KERNEL JoinSlicesKernel(AxpyJob job) {
  const int64_t c = static_cast<int64_t>(BlockIndex().x) * kJoinThreads + ThreadIndex();
  const int64_t t = BlockIndex().y;
  if (c >= job.y.n_cols) return;
  float sum = 0;
  for (int64_t s = 0; s < job.n_slices; ++s) {
    sum += job.partials[(s * job.y.n_rows + t) * job.y.n_cols + c];
  }
  F32Row(job.y, t)[c] = job.bias.data == nullptr ? sum : sum + F32Row(job.bias, 0)[c];
}

template <DType kType, int kTokens>
void LaunchAxpy(void* stream, const AxpyJob& job) {
  const int64_t n_units = (job.y.n_cols + kUnitElems - 1) / kUnitElems;
  const int64_t n_groups = (job.y.n_rows + kTokens - 1) / kTokens;
  Launch(AxpyKernel<kType, kTokens>, {n_units, job.n_slices, n_groups}, kAxpyThreads, stream, job,
         HasAlignedRows<kType>(job.w));
}

void AxpyRows(void* stream, const AxpyJob& job) {
  ForType(job.w.dtype, [&]<DType kType>() {
    if (job.y.n_rows == 1) {
      LaunchAxpy<kType, 1>(stream, job);
    } else {
      LaunchAxpy<kType, kAxpyTokens>(stream, job);
    }
  });
  Launch(JoinSlicesKernel, {(job.y.n_cols + kJoinThreads - 1) / kJoinThreads, job.y.n_rows},
         kJoinThreads, stream, job);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
