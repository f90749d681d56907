// Sums of neuron rows, each scaled by its activation: the down projection.
//
// A block owns 512 columns and a slice of the neurons; each of its warps adds some chunks of them
// (kSumChunk), in ascending order, its lanes 16 columns each: in F32 within a chunk, from one to
// the next in F64. Eight warps' sums meet in shared memory, the slices' in a second kernel, both in
// a fixed order. Chunks are dealt to warps by their place, so that neither the length of the list
// nor where hot neurons lie matters to balance, and so that the order of a token's sum does not
// depend on what other tokens add. The number of slices depends on the shape only. Bytes: what the
// rows have, plus 8 * n_slices * n_embd out and in per token (1 MiB with 264 blocks, mostly in the
// L2 cache) where 10 % of 28672 rows of 8192 F16 are 47 MB.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/rows.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kAxpyWarps = 8;
inline constexpr int kAxpyThreads = kAxpyWarps * kWarp;
// Neurons that a lane lists, and lanes that list a chunk.
inline constexpr int kRun = 8;
inline constexpr int kChunkLanes = static_cast<int>(kSumChunk) / kRun;
static_assert(kSumChunk % kRun == 0 && kWarp % kChunkLanes == 0);
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

// What lanes have added: of one chunk, and of those before.
template <int kTokens>
struct LaneSums {
  float chunk[kTokens][kLaneElems] = {};
  double before[kTokens][kLaneElems] = {};

  TC_DEVICE void EndChunk() {
    TC_UNROLL for (int t = 0; t < kTokens; ++t) {
      TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
        before[t][k] += static_cast<double>(chunk[t][k]);
        chunk[t][k] = 0;
      }
    }
  }
};

// Adds the rows of `ids`, of whole chunks, to the lane's sums, kAxpyAhead loads at a time.
template <DType kType, int kTokens>
TC_DEVICE void AddRows(const AxpyPart<kTokens>& part, const int32_t* ids, int n, int64_t unit,
                       int n_elems, bool is_fast, LaneSums<kTokens>& sums) {
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
      if (i0 + i > 0 && ids[i0 + i] / kSumChunk != ids[i0 + i - 1] / kSumChunk) sums.EndChunk();
      float w[kLaneElems];
      rows[i].Decode(Lane(), w);
      TC_UNROLL for (int t = 0; t < kTokens; ++t) {
        if (factors[i][t] == 0.0f) continue;
        TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
          sums.chunk[t][k] = Fma(factors[i][t], w[k], sums.chunk[t][k]);
        }
      }
    }
  }
  if (n > 0) sums.EndChunk();
}

// The warps' sums of a token, in order, to the block's part of `partials`.
template <DType kType>
TC_DEVICE void JoinWarps(const double (&sums)[kLaneElems], double* shared, int n_elems,
                         double* partial) {
  using Unit = typename UnitOf<kType>::Type;
  TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
    shared[Warp() * kUnitElems + Unit::QuadColumn(Lane(), k / 4) + k % 4] = sums[k];
  }
  SyncBlock();
  for (int c = ThreadIndex(); c < n_elems; c += kAxpyThreads) {
    double sum = 0;
    TC_UNROLL for (int warp = 0; warp < kAxpyWarps; ++warp) sum += shared[warp * kUnitElems + c];
    partial[c] = sum;
  }
  SyncBlock();
}

// Block (unit of columns, slice, group of tokens).
template <DType kType, int kTokens>
TC_KERNEL AxpyKernel(AxpyJob job, bool is_aligned) {
  TC_SHARED int32_t listed[kAxpyWarps][kListed];
  TC_SHARED double shared[kAxpyWarps * kUnitElems];
  const int64_t unit = BlockIndex().x, slice = BlockIndex().y;
  const int64_t t0 = static_cast<int64_t>(BlockIndex().z) * kTokens;
  const int n_tokens = static_cast<int>(Min(kTokens, job.a.n_rows - t0));
  const int n_elems = static_cast<int>(Min(kUnitElems, job.w.n_cols - unit * kUnitElems));
  const AxpyPart<kTokens> part{job, t0, n_tokens,
                               job.active.ids == nullptr ? 0 : *job.active.n_active};
  const int64_t n_chunks = (job.w.n_rows + kSumChunk - 1) / kSumChunk;
  const int64_t n_warps = static_cast<int64_t>(job.n_slices) * kAxpyWarps;
  int32_t* const mine = listed[Warp()];

  LaneSums<kTokens> sums;
  uint64_t n_added = 0;
  for (int64_t chunk = slice * kAxpyWarps + Warp(); chunk < n_chunks;
       chunk += n_warps * (kWarp / kChunkLanes)) {
    int32_t ids[kRun];
    const int64_t own = chunk + Lane() / kChunkLanes * n_warps;
    const int n = part.List(own * kChunkLanes + Lane() % kChunkLanes, ids);
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
        sums.before[t], shared, n_elems,
        job.partials + (slice * job.a.n_rows + t0 + t) * job.w.n_cols + unit * kUnitElems);
  }
  if (job.sums != nullptr && Lane() == 0 && unit == 0 && t0 == 0) {
    AtomicAdd(&job.sums->neuron_bytes, n_added * job.row_bytes);
    AtomicAdd(&job.sums->n_active, n_added);
  }
}

inline constexpr int kJoinThreads = 128;

// Block (columns, token): the slices in order, then the bias and the rounding, or neither.
TC_KERNEL JoinSlicesKernel(AxpyJob job) {
  const int64_t c = static_cast<int64_t>(BlockIndex().x) * kJoinThreads + ThreadIndex();
  const int64_t t = BlockIndex().y;
  if (c >= job.w.n_cols) return;
  double sum = 0;
  for (int64_t s = 0; s < job.n_slices; ++s) {
    sum += job.partials[(s * job.a.n_rows + t) * job.w.n_cols + c];
  }
  if (job.unrounded.data != nullptr) {
    job.unrounded.data[t * job.w.n_cols + c] = sum;
    return;
  }
  if (job.bias.data != nullptr) sum += F32Row(job.bias, 0)[c];
  F32Row(job.y, t)[c] = static_cast<float>(sum);
}

template <DType kType, int kTokens>
void LaunchAxpy(void* stream, const AxpyJob& job) {
  const int64_t n_units = (job.w.n_cols + kUnitElems - 1) / kUnitElems;
  const int64_t n_groups = (job.a.n_rows + kTokens - 1) / kTokens;
  Launch(AxpyKernel<kType, kTokens>, {n_units, job.n_slices, n_groups}, kAxpyThreads, stream, job,
         HasAlignedRows<kType>(job.w));
}

void AxpyRows(void* stream, const AxpyJob& job) {
  ForType(job.w.dtype, [&]<DType kType>() {
    if (job.a.n_rows == 1) {
      LaunchAxpy<kType, 1>(stream, job);
    } else {
      LaunchAxpy<kType, kAxpyTokens>(stream, job);
    }
  });
  Launch(JoinSlicesKernel, {(job.w.n_cols + kJoinThreads - 1) / kJoinThreads, job.a.n_rows},
         kJoinThreads, stream, job);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
