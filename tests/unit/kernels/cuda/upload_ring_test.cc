#include "kernels/cuda/upload_ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cuda/emulator.h"

namespace thermocline::kernels::cuda {
namespace {

// Page-locked and device memory that an emulated runtime has given the queue.
class UploadRingTest : public testing::Test {
 protected:
  UploadRingTest()
      : runtime_(MakeEmulatedRuntime({}).value()),
        sums_(reinterpret_cast<TrafficSums*>(runtime_->AllocateDevice(sizeof(TrafficSums)))),
        copies_(Runtime::kEvents),
        queue_(*runtime_, sums_, copies_.data()) {}

  // What lies at `device` once all that is enqueued has run.
  std::vector<int32_t> Read(const int32_t* device, size_t n) {
    std::vector<int32_t> items(n);
    runtime_->EnqueueCopyToHost(reinterpret_cast<const std::byte*>(device),
                                reinterpret_cast<std::byte*>(items.data()), 4 * n);
    EXPECT_TRUE(queue_.Wait(queue_.Mark()).ok());
    return items;
  }

  std::unique_ptr<Runtime> runtime_;
  TrafficSums* sums_;
  std::vector<TrafficSums> copies_;
  WorkQueue queue_;
};

std::vector<int32_t> Items(size_t n, int32_t first) {
  std::vector<int32_t> items(n);
  std::iota(items.begin(), items.end(), first);
  return items;
}

TEST_F(UploadRingTest, WhatIsTheSameIsUploadedOnce) {
  UploadRing ring(queue_);
  const std::vector<int32_t> items = Items(100, 5), others = Items(100, 6);
  const int32_t* const first = ring.Upload(UploadKind::kIds, std::span<const int32_t>(items));
  EXPECT_EQ(ring.Upload(UploadKind::kIds, std::span<const int32_t>(items)), first);
  EXPECT_NE(ring.Upload(UploadKind::kRows, std::span<const int32_t>(items)), first);
  const int32_t* const second = ring.Upload(UploadKind::kIds, std::span<const int32_t>(others));
  EXPECT_NE(second, first);
  EXPECT_EQ(Read(first, 100), items);
  EXPECT_EQ(Read(second, 100), others);
}

// Nobody waits but the ring: what an op reads, three segments at most, is still there when it runs.
TEST_F(UploadRingTest, ItemsStayUntilTheirOpHasRun) {
  UploadRing ring(queue_);
  constexpr size_t kItems = 50000;  // two in a segment
  auto results = std::vector<std::vector<int32_t>>(60, std::vector<int32_t>(kItems));
  for (int32_t step = 0; step < 60; ++step) {
    const std::vector<int32_t> items = Items(kItems, step);
    const int32_t* const device = ring.Upload(UploadKind::kIds, std::span<const int32_t>(items));
    ASSERT_NE(device, nullptr);
    runtime_->EnqueueCopyToHost(
        reinterpret_cast<const std::byte*>(device),
        reinterpret_cast<std::byte*>(results[static_cast<size_t>(step)].data()), 4 * kItems);
  }
  ASSERT_TRUE(queue_.Wait(queue_.Mark()).ok());
  for (int32_t step = 0; step < 60; ++step) {
    EXPECT_EQ(results[static_cast<size_t>(step)], Items(kItems, step)) << step;
  }
}

TEST_F(UploadRingTest, GrowsForWhatIsLargerThanASegment) {
  UploadRing ring(queue_);
  const std::vector<int32_t> small = Items(10, 1), large = Items(400000, 2);
  const int32_t* const first = ring.Upload(UploadKind::kPages, std::span<const int32_t>(small));
  const int32_t* const second =
      ring.Upload(UploadKind::kSequences, std::span<const int32_t>(large));
  EXPECT_EQ(Read(first, 10), small);  // one op may use both
  EXPECT_EQ(Read(second, 400000), large);
}

TEST_F(UploadRingTest, NothingIsNotNull) {
  UploadRing ring(queue_);
  EXPECT_NE(ring.Upload(UploadKind::kIds, std::span<const int32_t>()), nullptr);
}

}  // namespace
}  // namespace thermocline::kernels::cuda
