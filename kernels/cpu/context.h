// What the CPU ops share: the pool, scratch memory per thread, and tables kept between calls.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "kernels/ops.h"

namespace thermocline::kernels::cpu {

// Scratch of one thread, in floats, a part of its L2 cache: the largest need is that of AxpyRows
// for many tokens, which asserts that it fits.
inline constexpr int64_t kScratchFloats = 104 * 1024;

// Cosines and sines of the last rope calls: the layers of a step all turn by the same angles.
struct RopeTable {
  RopeArgs args;  // without freq_divisors, which are copied below
  std::vector<float> freq_divisors;
  std::vector<int64_t> positions;
  std::vector<float> cosines;  // [n_positions, n_rot / 2]
  std::vector<float> sines;
};

// Memory that grows to the largest need so far and is kept: a step allocates only until it has
// seen its widest batch. 64-byte aligned.
class GrowingBytes {
 public:
  std::byte* Reserve(size_t n_bytes) {
    constexpr size_t kAlign = 64;
    if (memory_.size() < n_bytes + kAlign) memory_.resize(n_bytes + kAlign);
    const auto at = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (RoundUp(at, uint64_t{kAlign}) - at);
  }

 private:
  std::vector<std::byte> memory_;
};

// Owned by the CPU device. Ops are called by one thread at a time and share chunks over the pool.
struct CpuContext {
  ThreadPool* pool = nullptr;
  Buffer scratch;  // kScratchFloats for each thread
  RopeTable rope;
  GrowingBytes byte_rows;     // activations of the op that runs, rounded to bytes
  GrowingBytes neuron_ids;    // of Neurons: those that remain, part by part
  GrowingBytes axpy_factors;  // of AxpyRows: activations of a block of tokens, neuron by neuron
  GrowingBytes adding_ids;    // of AxpyRows: the neurons that are not 0, preceded by their number

  float* thread_scratch(int thread) const {
    return reinterpret_cast<float*>(scratch.data()) + thread * kScratchFloats;
  }
};

// Calls fn(begin, end, thread) over parts of 0 .. n. Parts are multiples of `granule` items, at
// least `min_items` each, and at most a few per thread, so that a slow thread is helped out. A part
// never splits an item, so the split cannot change a result.
template <typename Fn>
void ForParts(CpuContext& context, int64_t n, int64_t granule, int64_t min_items, Fn&& fn) {
  constexpr int64_t kPartsPerThread = 4;
  if (n == 0) return;
  const int64_t n_threads = context.pool->n_threads();
  const int64_t n_parts_max = n_threads == 1 ? 1 : n_threads * kPartsPerThread;
  const int64_t wanted = std::max((n + n_parts_max - 1) / n_parts_max, min_items);
  const int64_t part = (wanted + granule - 1) / granule * granule;
  context.pool->ParallelFor((n + part - 1) / part, [&](int64_t i, int thread) {
    fn(i * part, std::min(n, (i + 1) * part), thread);
  });
}

// Elements a part must hold to be worth handing to another thread: waking one costs some
// microseconds, in which a core handles about this many.
inline constexpr int64_t kMinPartElems = 16 * 1024;

// Items of `elems` elements each that make a part worth handing over.
inline int64_t MinItems(int64_t elems) { return std::max<int64_t>(1, kMinPartElems / elems); }

}  // namespace thermocline::kernels::cpu
