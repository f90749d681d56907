#include "worker/profiler.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace thermocline::worker {
namespace {

TEST(Profiler, NearbyBandwidthsAreReportedEqual) {
  const double base = RoundBandwidth(10e9);
  EXPECT_EQ(RoundBandwidth(base * 1.08), base);
  EXPECT_EQ(RoundBandwidth(base / 1.08), base);
  EXPECT_GT(RoundBandwidth(base * 1.25), base);
  EXPECT_EQ(RoundBandwidth(base), base) << "rounding twice is rounding once";
}

TEST(Profiler, RoundingStaysWithinHalfAStep) {
  for (double x = 1e6; x < 1e13; x *= 1.37) {
    const double ratio = RoundBandwidth(x) / x;
    EXPECT_GT(ratio, 0.916);
    EXPECT_LT(ratio, 1.091);
  }
  EXPECT_EQ(RoundBandwidth(0), 0);
}

TEST(Profiler, ThisMachineReadsFasterThanADisk) {
  EXPECT_GT(MeasureReadBandwidth(2), 100.0 * static_cast<double>(kMiB));
}

}  // namespace
}  // namespace thermocline::worker
