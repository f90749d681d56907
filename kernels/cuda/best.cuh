// The best few of each row of logits.
//
// A logit and its column make one key of 64 bits; keys differ and are in the order wanted, so that
// whatever order they meet in, the best are the same. A block sorts 1024 keys in shared memory
// (Batcher 1968, bitonic) and keeps the first k; passes follow until one block is left: two of them
// for the one best of a vocabulary, three for 64. Bytes: the logits once.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kBestThreads = 256;

// Larger is better: the logit as an integer in the order of floats above the column's complement.
// NaN counts as -inf, +inf as the largest float, -0 as 0. No key is 0.
TC_DEVICE uint64_t BestKey(float logit, int64_t column) {
  const float largest = BitsToFloat(0x7f7fffffu);
  const float value = logit != logit ? -kInfinity : logit > largest ? largest : logit + 0.0f;
  const uint32_t bits = FloatToBits(value);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | ~static_cast<uint32_t>(column);
}
TC_DEVICE float LogitOf(uint64_t key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return BitsToFloat((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
TC_DEVICE uint32_t ColumnOf(uint64_t key) { return ~static_cast<uint32_t>(key); }

// Descending, in place.
TC_DEVICE void SortKeys(uint64_t* keys) {
  for (int size = 2; size <= kBestKeys; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      SyncBlock();
      for (int pair = ThreadIndex(); pair < kBestKeys / 2; pair += kBestThreads) {
        const int low = 2 * pair - (pair & (stride - 1)), high = low + stride;
        const uint64_t a = keys[low], b = keys[high];
        const bool is_descending = (low & size) == 0;
        if ((a < b) == is_descending) keys[low] = b, keys[high] = a;
      }
    }
  }
  SyncBlock();
}

// Of one pass: n_from keys per row, those of the logits or what the pass before has left.
struct BestPass {
  TensorView logits;
  const uint64_t* from = nullptr;
  int64_t n_from = 0;
  int32_t k = 1;
  uint64_t* to = nullptr;  // null: to `best`
  TensorView best;
};

// Block (kBestKeys of the keys, row).
TC_KERNEL BestKernel(BestPass pass) {
  TC_SHARED uint64_t keys[kBestKeys];
  const int64_t row = BlockIndex().y, first = static_cast<int64_t>(BlockIndex().x) * kBestKeys;
  for (int i = ThreadIndex(); i < kBestKeys; i += kBestThreads) {
    const int64_t at = first + i;
    uint64_t key = 0;
    if (at < pass.n_from) {
      key = pass.from == nullptr ? BestKey(F32Row(pass.logits, row)[at], at)
                                 : pass.from[row * pass.n_from + at];
    }
    keys[i] = key;
  }
  SortKeys(keys);
  for (int i = ThreadIndex(); i < pass.k; i += kBestThreads) {
    if (pass.to != nullptr) {
      pass.to[(row * BlockCount().x + BlockIndex().x) * pass.k + i] = keys[i];
    } else {
      F32Row(pass.best, row)[2 * i] = LogitOf(keys[i]);
      F32Row(pass.best, row)[2 * i + 1] = BitsToFloat(ColumnOf(keys[i]));
    }
  }
}

void SelectBest(void* stream, const BestJob& job) {
  BestPass pass;
  pass.logits = job.logits, pass.k = job.k, pass.best = job.best;
  pass.n_from = job.logits.n_cols;
  uint64_t* to = job.keys;
  while (true) {
    const int64_t n_blocks = (pass.n_from + kBestKeys - 1) / kBestKeys;
    pass.to = n_blocks == 1 ? nullptr : to;
    Launch(BestKernel, {n_blocks, job.best.n_rows}, kBestThreads, stream, pass);
    if (n_blocks == 1) return;
    pass.from = to;
    pass.n_from = n_blocks * job.k;
    to += job.best.n_rows * pass.n_from;
  }
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
