#include "worker/profiler.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "base/buffer.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Per thread. Larger than any L2 in use; small enough not to show in the peak RSS of a worker that
// then loads weights.
constexpr uint64_t kRegionBytes = 16 * kMiB;
// Passes after the first, warming one; the best is taken since disturbances only slow a pass.
constexpr int kPasses = 32;

uint64_t SumWords(const std::byte* data, uint64_t n_bytes) {
  uint64_t sums[4] = {};  // independent chains, so that the loop waits for memory only
  for (uint64_t at = 0; at + 32 <= n_bytes; at += 32) {
    uint64_t words[4];
    std::memcpy(words, data + at, sizeof words);
    for (int i = 0; i < 4; ++i) sums[i] += words[i];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

double BestPassSeconds(const Buffer& region) {
  volatile uint64_t keep = SumWords(region.data(), region.size());
  double best = 1e9;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    keep = SumWords(region.data(), region.size());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  (void)keep;
  return std::max(best, 1e-9);
}

}  // namespace

double MeasureReadBandwidth(int n_threads) {
  std::vector<double> seconds(static_cast<size_t>(n_threads), 0.0);
  std::vector<std::thread> threads;
  for (double& own : seconds) {
    threads.emplace_back([&own] {
      auto region = Buffer::Allocate(kRegionBytes);
      if (!region.ok()) return;
      std::memset(region->data(), 1, region->size());
      own = BestPassSeconds(*region);
    });
  }
  for (std::thread& thread : threads) thread.join();
  double total = 0;
  for (const double s : seconds) total += s > 0 ? static_cast<double>(kRegionBytes) / s : 0;
  return total;
}

}  // namespace thermocline::worker
