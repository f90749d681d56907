// How fast the threads of a pool read memory right now: what a worker says of itself, and what a
// benchmark's bytes per second are set against, measured beside it because a shared machine changes
// from second to second.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "base/units.h"

namespace thermocline::worker {

// Rows that the gather reads, as neurons of a model of n_embd 2048 in F16 would be.
inline constexpr uint64_t kGatherRowBytes = 4 * kKiB;
inline constexpr double kGatherShare = 0.1;

// What the memory is filled with: a number of ordinary size whatever type it is read as, F32, half,
// bf16, scale or quant, so that no product of it is slow for being tiny, infinite or no number.
inline constexpr int kProbeByte = 0x2d;

// The middle one of the times that the same work took, the faster of two: the best is luck, and a
// mean has in it what other programs did for a moment.
double MedianSeconds(std::vector<double> seconds);

// How much one probe reads. At 30 GB/s 512 MiB take 18 ms: long enough to tell, short enough to
// stand beside every run.
inline constexpr uint64_t kProbeSliceBytes = 512 * kMiB;
// Four times the last level's cache, so that a slice has left it when its turn comes again; at
// least one slice and at most 2 GiB, which serves caches up to 512 MiB. Never more than a quarter
// of the available memory, but at least 16 MiB.
inline constexpr uint64_t kMinProbeBytes = 16 * kMiB;
inline constexpr uint64_t kMaxProbeBytes = 64 * kGiB;  // of a buffer that somebody asks for
uint64_t ProbeBufferBytes(uint64_t cache_bytes, uint64_t available_bytes);

// Owns the memory it reads, on huge pages where the system has them. One thread, which is also the
// calling one of the pools.
class BandwidthProbe {
 public:
  // A buffer of `n_bytes`, written once. kResourceExhausted without memory for it.
  static Result<BandwidthProbe> Create(uint64_t n_bytes);

  // Reads the next slice from its beginning to its end. Bytes per second.
  double Stream(ThreadPool& pool);
  // Reads kGatherShare of the next slice's rows, each of them whole and the next one prefetched.
  // Bytes of those rows per second.
  double Gather(ThreadPool& pool);

  // Lets the next readings come from DRAM though the caches would hold the buffer.
  void Evict() const;

  uint64_t buffer_bytes() const { return buffer_.size(); }
  // All of it; every byte is kProbeByte.
  std::span<std::byte> buffer() { return {buffer_.data(), buffer_.size()}; }

 private:
  BandwidthProbe() = default;
  const std::byte* NextSlice();

  SteadyClock clock_;
  Buffer buffer_;
  uint64_t slice_bytes_ = 0;
  uint64_t next_slice_ = 0;
  std::vector<uint64_t> row_offsets_;  // of the gather, within a slice, ascending
  std::vector<uint64_t> sums_;         // one per thread, so that no read can be left out
};

}  // namespace thermocline::worker
