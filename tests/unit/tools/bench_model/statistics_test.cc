#include "tools/bench_model/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace thermocline::tools {
namespace {

TEST(Statistics, OfSeveralValues) {
  const Spread spread = SpreadOf({4, 1, 3, 2});
  EXPECT_DOUBLE_EQ(spread.mean, 2.5);
  EXPECT_DOUBLE_EQ(spread.median, 2.5);
  EXPECT_DOUBLE_EQ(spread.min, 1);
  EXPECT_DOUBLE_EQ(spread.max, 4);
  EXPECT_DOUBLE_EQ(spread.deviation, std::sqrt(5.0 / 3));
  EXPECT_DOUBLE_EQ(MedianOf({5, 100, 1}), 5);
}

TEST(Statistics, OfOneAndOfNone) {
  const Spread one = SpreadOf({7});
  EXPECT_DOUBLE_EQ(one.mean, 7);
  EXPECT_DOUBLE_EQ(one.median, 7);
  EXPECT_DOUBLE_EQ(one.deviation, 0);
  EXPECT_DOUBLE_EQ(SpreadOf({}).mean, 0);
}

}  // namespace
}  // namespace thermocline::tools
