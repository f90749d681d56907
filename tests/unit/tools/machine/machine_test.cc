#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/device.h"
#include "tests/support/status_matchers.h"
#include "tools/machine/machine_info.h"
#include "tools/machine/random_weights.h"

namespace thermocline::tools {
namespace {

TEST(CpuInfo, FindsAKeyAsAWhole) {
  const std::string text = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU @ 2 GHz\nflags\t:\n";
  EXPECT_EQ(CpuInfoValue(text, "model name"), "A CPU @ 2 GHz");
  EXPECT_EQ(CpuInfoValue(text, "model"), "85");
  EXPECT_EQ(CpuInfoValue(text, "flags"), "");
  EXPECT_EQ(CpuInfoValue(text, "mod"), "");
}

TEST(MachineInfo, SaysSomething) {
  EXPECT_FALSE(CpuName().empty());
  EXPECT_NE(BuildName().find('('), std::string::npos);
  EXPECT_EQ(UtcNow().size(), std::string("2026-01-31 23:59 UTC").size());
}

TEST(RandomWeights, AreSmallAndDifferInEveryType) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const auto buffer = RandomWeights(dtype, 3, 512, 1);
    ASSERT_THAT(buffer.status(), testing::IsOk());
    std::vector<float> row(512);
    kernels::DequantizeRow(dtype, buffer->data() + RowBytes(dtype, 512), 512, row.data());
    float least = row[0], most = row[0];
    for (const float value : row) {
      ASSERT_TRUE(std::isfinite(value)) << DTypeName(dtype);
      least = std::min(least, value);
      most = std::max(most, value);
    }
    EXPECT_LE(std::max(-least, most), 0.2f) << DTypeName(dtype);
    EXPECT_GT(most - least, 0.02f) << DTypeName(dtype);
  }
}

}  // namespace
}  // namespace thermocline::tools
