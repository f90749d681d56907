#include "worker/probe/bandwidth_probe.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace thermocline::worker {
namespace {

TEST(ProbeBuffer, IsLargerThanTheCacheWithinMemory) {
  EXPECT_EQ(ProbeBufferBytes(32 * kMiB, 64 * kGiB), 512 * kMiB);
  EXPECT_EQ(ProbeBufferBytes(256 * kMiB, 64 * kGiB), 1 * kGiB);
  EXPECT_EQ(ProbeBufferBytes(~uint64_t{0}, 64 * kGiB), 2 * kGiB);
  EXPECT_EQ(ProbeBufferBytes(256 * kMiB, 1 * kGiB), 256 * kMiB);
  EXPECT_EQ(ProbeBufferBytes(256 * kMiB, 1 * kMiB), kMinProbeBytes);
  EXPECT_EQ(ProbeBufferBytes(0, 0), 512 * kMiB);  // unknown
}

TEST(MedianSeconds, IsTheFasterOfTheMiddle) {
  EXPECT_EQ(MedianSeconds({}), 0);
  EXPECT_EQ(MedianSeconds({3}), 3);
  EXPECT_EQ(MedianSeconds({9, 1, 8, 2, 7}), 7);
  EXPECT_EQ(MedianSeconds({5, 4, 3, 2}), 3);
}

TEST(BandwidthProbe, MeasuresBothWaysOfReading) {
  auto probe = BandwidthProbe::Create(24 * kMiB);
  ASSERT_THAT(probe.status(), testing::IsOk());
  auto pool = ThreadPool::Create({.n_threads = 2, .name = "probe"});
  ASSERT_THAT(pool.status(), testing::IsOk());
  for (int i = 0; i < 3; ++i) {
    EXPECT_GT(probe->Stream(**pool), 0);
    EXPECT_GT(probe->Gather(**pool), 0);
    probe->Evict();
  }
}

}  // namespace
}  // namespace thermocline::worker
