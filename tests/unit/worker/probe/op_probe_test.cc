#include "worker/probe/op_probe.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "base/units.h"
#include "kernels/device.h"
#include "tests/support/patience.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/cache_eviction.h"

namespace thermocline::worker {
namespace {

using placement::WeightRate;
using placement::WeightUse;

class OpProbeTest : public ::testing::Test {
 protected:
  OpProbeTest() { std::memset(region_.data(), kProbeByte, region_.size()); }

  uint64_t ReadBytes(const WeightRate& rate, Duration slot) {
    const uint64_t before = device_->ops().traffic().weight_bytes;
    EXPECT_GT(probe_.BytesPerS(rate, slot).value(), 0);
    return device_->ops().traffic().weight_bytes - before;
  }

  const uint64_t row_ = RowBytes(DType::kQ4_0, kProbeCols);
  const std::unique_ptr<kernels::Device> device_ = *kernels::MakeCpuDevice({2, {}});
  Buffer region_ = *Buffer::Allocate(OpProbe::kMinBytes);
  OpProbe probe_ = OpProbe::Create(*device_, {region_.data(), region_.size()}).value();
};

// Without any time: once the few rows of the trial, once the same for the record, which reads what
// the rate names.
TEST_F(OpProbeTest, ReadsTheRowsThatTheRateNames) {
  constexpr uint64_t kTrialRows = 64;
  // Before the reading a tiny product wakes the threads: twice 16 rows of F16.
  const uint64_t wake = 2 * 16 * RowBytes(DType::kF16, kProbeCols);
  const uint64_t all = wake + 2 * kTrialRows * row_;
  EXPECT_EQ(ReadBytes({.use = WeightUse::kMatMul, .dtype = DType::kQ4_0}, Duration{0}), all);
  for (const WeightUse use : {WeightUse::kNeurons, WeightUse::kAxpyRows}) {
    WeightRate rate{.use = use, .dtype = DType::kQ4_0, .row_share = 1, .n_tokens = 4};
    EXPECT_EQ(ReadBytes(rate, Duration{0}), all);
    rate.row_share = 0.1;
    const uint64_t n_read = (ReadBytes(rate, Duration{0}) - wake) / row_ - kTrialRows;
    EXPECT_GT(n_read, 0u);
    EXPECT_LT(n_read, kTrialRows / 4);
  }
}

TEST_F(OpProbeTest, ReadsMuchWhereThereIsTime) {
  // A stall within the trial makes any time look short.
  EXPECT_TRUE(testing::InGrowingTime(std::chrono::milliseconds(200), [&](Duration time) {
    return ReadBytes({.use = WeightUse::kMatMul, .dtype = DType::kQ4_0}, time) >=
           (OpProbe::kMinBytes - 64) / row_ * row_;
  }));
}

TEST_F(OpProbeTest, ComputesHoweverShortTheTime) {
  for (const int n_tokens : {1, 64}) {
    EXPECT_GT(probe_.FlopsPerS(DType::kQ4_K, n_tokens, Duration{0}).value(), 0);
  }
}

TEST(CacheEviction, KeepsWhatIsInMemory) {
  std::vector<std::byte> bytes(10'000, std::byte{7});
  EvictFromCaches({bytes.data() + 3, bytes.size() - 3});
  EvictFromCaches({});
  for (const std::byte byte : bytes) ASSERT_EQ(byte, std::byte{7});
}

}  // namespace
}  // namespace thermocline::worker
