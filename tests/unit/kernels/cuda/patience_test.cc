// Waits that end.
#include "kernels/cuda/patience.h"

#include <gtest/gtest.h>

namespace thermocline::kernels::cuda {
namespace {

TEST(Patience, LooksUntilItIsDone) {
  int n_looks = 0;
  EXPECT_TRUE(WaitPatiently(kDevicePatience, [&] { return ++n_looks == 100; }));
  EXPECT_EQ(n_looks, 100);
  EXPECT_TRUE(WaitPatiently(Duration{0}, [] { return true; })) << "what is done needs no patience";
}

TEST(Patience, Ends) {
  constexpr Duration kPatience = 2 * kYieldingTime;
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  int n_looks = 0;
  EXPECT_FALSE(WaitPatiently(kPatience, [&] { return ++n_looks < 0; }));
  EXPECT_GE(clock.Now() - begin, kPatience);
  EXPECT_GE(n_looks, 2);
}

}  // namespace
}  // namespace thermocline::kernels::cuda
