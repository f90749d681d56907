#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/patience.h"

namespace thermocline {
namespace {

std::unique_ptr<ThreadPool> Pool(int n_threads) {
  auto pool = ThreadPool::Create({.n_threads = n_threads, .name = "test"});
  EXPECT_TRUE(pool.ok()) << pool.status();
  return std::move(pool).value();
}

TEST(ThreadPoolTest, RunsEachChunkOnce) {
  for (const int n_threads : {1, 2, 3, 5}) {
    const auto pool = Pool(n_threads);
    EXPECT_EQ(pool->n_threads(), n_threads);
    for (const int64_t n_chunks : {0, 1, 2, 7, 64}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(n_chunks));
      pool->ParallelFor(n_chunks, [&](int64_t chunk, int thread) {
        EXPECT_GE(thread, 0);
        EXPECT_LT(thread, n_threads);
        runs[static_cast<size_t>(chunk)].fetch_add(1, std::memory_order_relaxed);
      });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1) << n_threads << " " << n_chunks;
    }
  }
}

TEST(ThreadPoolTest, ThreadNumbersAreNotShared) {
  const auto pool = Pool(4);
  // Not atomic on purpose: the thread sanitizer reports two chunks that share a number.
  std::vector<int64_t> sums(4, 0);
  pool->ParallelFor(100,
                    [&](int64_t chunk, int thread) { sums[static_cast<size_t>(thread)] += chunk; });
  EXPECT_EQ(sums[0] + sums[1] + sums[2] + sums[3], 4950);
}

TEST(ThreadPoolTest, ResultsAreVisibleToTheCallerAndToTheNextLoop) {
  const auto pool = Pool(3);
  std::vector<int> values(16, 0);
  for (int round = 0; round < 2000; ++round) {
    pool->ParallelFor(16, [&](int64_t chunk, int) { ++values[static_cast<size_t>(chunk)]; });
  }
  for (const int value : values) EXPECT_EQ(value, 2000);
}

TEST(ThreadPoolTest, ManyMoreThreadsThanCores) {
  const auto pool = Pool(33);
  int64_t total = 0;
  for (int round = 0; round < 200; ++round) {
    std::atomic<int64_t> sum{0};
    const int64_t n_chunks = round % 50;
    pool->ParallelFor(
        n_chunks, [&](int64_t chunk, int) { sum.fetch_add(chunk + 1, std::memory_order_relaxed); });
    EXPECT_EQ(sum.load(), n_chunks * (n_chunks + 1) / 2);
    total += sum.load();
  }
  EXPECT_GT(total, 0);
}

TEST(ThreadPoolTest, StartsAndStopsWithoutWork) {
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Pool(i % 5 + 1)->n_threads(), i % 5 + 1);
}

TEST(ThreadPoolTest, BodyMayHaveState) {
  const auto pool = Pool(1);
  int calls = 0;
  auto count = [&calls](int64_t, int) mutable { ++calls; };
  pool->ParallelFor(3, count);
  EXPECT_EQ(calls, 3);
}

TEST(ThreadPoolTest, ThreadsBearTheirName) {
  const auto pool = Pool(2);
  std::atomic<bool> named{false};
  const SteadyClock clock;
  const TimePoint give_up = clock.Now() + testing::kPatience;
  // The started thread may sleep through a loop, so offer loops until it has joined one.
  while (!named.load() && clock.Now() < give_up) {
    pool->ParallelFor(64, [&](int64_t, int thread) {
      if (thread == 0) return std::this_thread::yield();
      char name[16] = {};
      pthread_getname_np(pthread_self(), name, sizeof(name));
      if (std::string_view(name) == "test/1") named.store(true);
    });
  }
  EXPECT_TRUE(named.load());
}

TEST(ThreadPoolTest, RefusesBadOptions) {
  EXPECT_EQ(ThreadPool::Create({.n_threads = 0}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ThreadPool::Create({.n_threads = 1 << 20}).status().code(),
            StatusCode::kInvalidArgument);
  const Status status = ThreadPool::Create({.n_threads = 2, .cpus = {1 << 20}}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("cpu=1048576"), std::string::npos) << status;
}

}  // namespace
}  // namespace thermocline
