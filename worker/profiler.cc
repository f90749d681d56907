#include "worker/profiler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "base/buffer.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

using SteadyTime = std::chrono::steady_clock;

// Of each thread: more than an L2 cache holds.
constexpr uint64_t kThreadBytes = 4 * kMiB;
// Of all threads together: at least a group of cores' last-level cache in common servers. Where
// that cache is larger, its bandwidth is measured, for this memory shows in the worker's peak
// though it is freed before anything is loaded: up to eight threads it fits what a plan leaves a
// process for itself (placement::kRuntimeBytes).
constexpr uint64_t kMinRegionBytes = 32 * kMiB;
// A dozen cores fill the memory channels of a socket; more add little.
constexpr int kMaxThreads = 16;
// Long enough that workers which were started together overlap for most of it, so that they
// measure what they will share.
constexpr auto kDuration = std::chrono::milliseconds(150);
constexpr size_t kMinPasses = 3;

uint64_t SumWords(std::span<const std::byte> bytes) {
  uint64_t sums[4] = {};  // independent chains, so that the loop waits for memory only
  for (size_t at = 0; at + 32 <= bytes.size(); at += 32) {
    uint64_t words[4];
    std::memcpy(words, bytes.data() + at, sizeof words);
    for (int i = 0; i < 4; ++i) sums[i] += words[i];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// The median, since the best pass is one that others left alone, or that found the caches warm.
double MedianPassSeconds(std::span<const std::byte> region) {
  volatile uint64_t keep = SumWords(region);  // warms the translation caches
  std::vector<double> seconds;
  const auto until = SteadyTime::now() + kDuration;
  while (seconds.size() < kMinPasses || SteadyTime::now() < until) {
    const auto begin = SteadyTime::now();
    keep = SumWords(region);
    seconds.push_back(std::chrono::duration<double>(SteadyTime::now() - begin).count());
  }
  (void)keep;
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return std::max(*middle, 1e-9);
}

}  // namespace

double MeasureReadBandwidth(int n_threads) {
  const int n_measuring = std::clamp(n_threads, 1, kMaxThreads);
  const uint64_t share =
      std::max(kThreadBytes, kMinRegionBytes / static_cast<uint64_t>(n_measuring));
  std::vector<double> bytes_per_s(static_cast<size_t>(n_measuring), 0.0);
  std::vector<std::thread> threads;
  for (double& own : bytes_per_s) {
    threads.emplace_back([&own, share] {
      auto region = Buffer::Allocate(share);
      if (!region.ok()) return;
      std::memset(region->data(), 1, region->size());
      own = static_cast<double>(share) / MedianPassSeconds({region->data(), region->size()});
    });
  }
  for (std::thread& thread : threads) thread.join();
  double total = 0;
  for (const double own : bytes_per_s) total += own;
  return RoundBandwidth(total);
}

double RoundBandwidth(double bytes_per_s) {
  constexpr double kStepsPerOctave = 4;
  if (!(bytes_per_s > 0)) return 0;
  return std::exp2(std::round(std::log2(bytes_per_s) * kStepsPerOctave) / kStepsPerOctave);
}

}  // namespace thermocline::worker
