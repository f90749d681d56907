#include "base/clock.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

using std::chrono::milliseconds;

TEST(ManualClock, MovesOnlyWhenTold) {
  ManualClock clock;
  const TimePoint start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(milliseconds(1500));
  EXPECT_EQ(clock.Now() - start, milliseconds(1500));
  EXPECT_DOUBLE_EQ(Seconds(clock.Now() - start), 1.5);
  EXPECT_EQ(start + milliseconds(1500), clock.Now());
  EXPECT_LT(start, clock.Now());
}

TEST(SteadyClock, NeverGoesBack) {
  const SteadyClock clock;
  TimePoint last = clock.Now();
  for (int i = 0; i < 1000; ++i) {
    const TimePoint now = clock.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

}  // namespace
}  // namespace thermocline
