#include "worker/probe/bandwidth_probe.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/rng.h"
#include "worker/probe/cache_eviction.h"

namespace thermocline::worker {
namespace {

constexpr uint64_t kMaxChosenBytes = 2 * kGiB;
// What a thread takes at a time: small beside a slice, so that a slow thread is helped out and any
// number of threads ends together.
constexpr uint64_t kChunkBytes = 256 * kKiB;
constexpr uint64_t kLineBytes = 64;
// A page ahead: past what the core's own prefetcher, which stops at page ends, has asked for.
constexpr uint64_t kPrefetchBytes = 4096;

using Words = uint64_t __attribute__((vector_size(16)));

Words Load(const std::byte* bytes) {
  Words words;
  std::memcpy(&words, bytes, sizeof words);
  return words;
}

// Sums whole lines, prefetching the lines of `ahead`. Four chains: the loop waits for memory only.
uint64_t SumLines(const std::byte* bytes, uint64_t n_bytes, const std::byte* ahead) {
  Words sums[4] = {};
  for (uint64_t at = 0; at < n_bytes; at += kLineBytes) {
    __builtin_prefetch(ahead + at);
    for (int i = 0; i < 4; ++i) sums[i] += Load(bytes + at + 16 * i);
  }
  const Words sum = sums[0] + sums[1] + sums[2] + sums[3];
  return sum[0] + sum[1];
}

}  // namespace

double MedianSeconds(std::vector<double> seconds) {
  if (seconds.empty()) return 0;
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>((seconds.size() - 1) / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

uint64_t ProbeBufferBytes(uint64_t cache_bytes, uint64_t available_bytes) {
  uint64_t bytes =
      std::clamp(4 * std::min(cache_bytes, kMaxChosenBytes), kProbeSliceBytes, kMaxChosenBytes);
  if (available_bytes > 0) bytes = std::min(bytes, available_bytes / 4);
  return std::max(bytes, kMinProbeBytes) / kChunkBytes * kChunkBytes;
}

Result<BandwidthProbe> BandwidthProbe::Create(uint64_t n_bytes) {
  BandwidthProbe probe;
  TC_ASSIGN_OR_RETURN(probe.buffer_, Buffer::Allocate(RoundUp(n_bytes, kChunkBytes)));
  std::memset(probe.buffer_.data(), kProbeByte, probe.buffer_.size());
  probe.slice_bytes_ = std::min(probe.buffer_.size(), kProbeSliceBytes);
  constexpr uint64_t kSeed = 1;
  for (uint64_t row = 0; row < probe.slice_bytes_ / kGatherRowBytes; ++row) {
    if (UniformAt(kSeed, row) < kGatherShare) probe.row_offsets_.push_back(row * kGatherRowBytes);
  }
  return probe;
}

void BandwidthProbe::Evict() const { EvictFromCaches({buffer_.data(), buffer_.size()}); }

// The slices overlap where the buffer is no multiple of them; that of the longest ago comes next.
const std::byte* BandwidthProbe::NextSlice() {
  const uint64_t begin = std::min(next_slice_, buffer_.size() - slice_bytes_);
  next_slice_ = begin + slice_bytes_ == buffer_.size() ? 0 : begin + slice_bytes_;
  return buffer_.data() + begin;
}

double BandwidthProbe::Stream(ThreadPool& pool) {
  const std::byte* const slice = NextSlice();
  const std::byte* const last_page = buffer_.data() + buffer_.size() - kPrefetchBytes;
  sums_.assign(static_cast<size_t>(pool.n_threads()), 0);
  const TimePoint begin = clock_.Now();
  pool.ParallelFor(static_cast<int64_t>(slice_bytes_ / kChunkBytes), [&](int64_t i, int thread) {
    const std::byte* const chunk = slice + static_cast<uint64_t>(i) * kChunkBytes;
    for (uint64_t at = 0; at < kChunkBytes; at += kPrefetchBytes) {
      const std::byte* const ahead = std::min(chunk + at + kPrefetchBytes, last_page);
      sums_[static_cast<size_t>(thread)] += SumLines(chunk + at, kPrefetchBytes, ahead);
    }
  });
  return static_cast<double>(slice_bytes_) / Seconds(clock_.Now() - begin);
}

double BandwidthProbe::Gather(ThreadPool& pool) {
  constexpr size_t kRowsPerChunk = 64;
  const std::byte* const slice = NextSlice();
  const std::span<const uint64_t> rows = row_offsets_;
  sums_.assign(static_cast<size_t>(pool.n_threads()), 0);
  const TimePoint begin = clock_.Now();
  const auto n_chunks = static_cast<int64_t>(DivCeil(rows.size(), kRowsPerChunk));
  pool.ParallelFor(n_chunks, [&](int64_t i, int thread) {
    const size_t first = static_cast<size_t>(i) * kRowsPerChunk;
    const size_t end = std::min(rows.size(), first + kRowsPerChunk);
    for (size_t row = first; row < end; ++row) {
      const std::byte* const ahead = slice + rows[std::min(row + 1, end - 1)];
      sums_[static_cast<size_t>(thread)] += SumLines(slice + rows[row], kGatherRowBytes, ahead);
    }
  });
  return static_cast<double>(rows.size() * kGatherRowBytes) / Seconds(clock_.Now() - begin);
}

}  // namespace thermocline::worker
