#include "worker/probe/op_probe.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/units.h"
#include "kernels/device.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/cache_eviction.h"

namespace thermocline::worker {
namespace {

using placement::WeightRate;
using placement::WeightUse;

// What an op was asked to read is what the rate is of.
TEST(OpProbe, ReadsTheRowsThatTheRateNames) {
  auto device = *kernels::MakeCpuDevice({2, {}});
  Buffer region = *Buffer::Allocate(OpProbe::kMinBytes);
  std::memset(region.data(), kProbeByte, region.size());
  OpProbe probe(*device, {region.data(), region.size()});
  const auto read = [&](const WeightRate& rate) {
    const uint64_t before = device->ops().traffic().weight_bytes;
    EXPECT_GT(probe.BytesPerS(rate, Duration{0}), 0);
    return device->ops().traffic().weight_bytes - before;
  };
  // Besides each reading one tiny product wakes the threads: twice 16 rows of F16.
  const uint64_t wake = 2 * 16 * RowBytes(DType::kF16, kProbeCols);
  const uint64_t row = RowBytes(DType::kQ4_0, kProbeCols);
  const uint64_t n_rows = (OpProbe::kMinBytes - 64) / row;
  EXPECT_EQ(read({.use = WeightUse::kMatMul, .dtype = DType::kQ4_0}), wake + n_rows * row);
  for (const WeightUse use : {WeightUse::kNeurons, WeightUse::kAxpyRows}) {
    const WeightRate tenth{.use = use, .dtype = DType::kQ4_0, .row_share = 0.1, .n_tokens = 4};
    const auto n_read = static_cast<double>(read(tenth) - wake) / static_cast<double>(row);
    EXPECT_NEAR(n_read, 0.1 * static_cast<double>(n_rows), 0.03 * static_cast<double>(n_rows));
    const WeightRate all{.use = use, .dtype = DType::kQ4_0, .row_share = 1};
    EXPECT_EQ(read(all), wake + n_rows * row);
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
