// Compaction: the columns that some token needs, ascending, and how many they are.
//
// A first kernel marks columns, a bit each, and counts them per block of 256; in a second one every
// block adds the counts before its own and writes its ids behind those of the others. All sums are
// of integers, and nothing waits for the host.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kSelectWarps = kSelectCols / kWarp;

// The sum over the block, the same in every thread.
TC_DEVICE int BlockSum(int value, int* shared) {
  const int sum = WarpSum(value);
  SyncBlock();
  if (Lane() == 0) shared[Warp()] = sum;
  SyncBlock();
  int total = 0;
  for (int warp = 0; warp < kSelectWarps; ++warp) total += shared[warp];
  return total;
}

TC_KERNEL MarkKernel(SelectJob job) {
  TC_SHARED int shared[kSelectWarps];
  const int64_t c = static_cast<int64_t>(BlockIndex().x) * kSelectCols + ThreadIndex();
  bool is_named = false;
  for (int64_t t = 0; t < job.a.n_rows && c < job.a.n_cols && !is_named; ++t) {
    const float value = F32Row(job.a, t)[c];
    is_named = job.by_threshold ? value >= job.threshold : value != 0.0f;
  }
  const uint32_t marks = Ballot(is_named);
  if (Lane() == 0) job.marks[BlockIndex().x * kSelectWarps + Warp()] = marks;
  const int count = BlockSum(is_named ? 1 : 0, shared);
  if (ThreadIndex() == 0) job.counts[BlockIndex().x] = count;
}

TC_KERNEL ListKernel(SelectJob job) {
  TC_SHARED int shared[kSelectWarps];
  const int block = BlockIndex().x;
  int counted = 0;
  for (int b = ThreadIndex(); b < block; b += kSelectCols) counted += job.counts[b];
  int place = BlockSum(counted, shared);
  const uint32_t* const marks = job.marks + block * kSelectWarps;
  for (int warp = 0; warp < Warp(); ++warp) place += CountBits(marks[warp]);
  const uint32_t mine = marks[Warp()];
  const uint32_t bit = 1u << Lane();
  if ((mine & bit) != 0) {
    job.active.ids[place + CountBits(mine & (bit - 1))] = block * kSelectCols + ThreadIndex();
  }
  if (block == BlockCount().x - 1 && ThreadIndex() == kSelectCols - 1) {
    const int n = place + CountBits(mine);
    *job.active.n_active = n;
    if (job.by_threshold && job.sums != nullptr) job.sums->n_named += static_cast<uint64_t>(n);
  }
}

void Select(void* stream, const SelectJob& job) {
  const int64_t n_blocks = (job.a.n_cols + kSelectCols - 1) / kSelectCols;
  Launch(MarkKernel, {n_blocks}, kSelectCols, stream, job);
  Launch(ListKernel, {n_blocks}, kSelectCols, stream, job);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
