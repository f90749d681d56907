#include "tools/synth/firing_law.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

using thermocline::testing::IsOk;

TEST(FiringLaw, HasTheMeanAndTheShare) {
  const FiringLaw kLaws[] = {{0.1, 0.26, 0.8}, {0.03, 0.1, 0.5}, {0.3, 0.43, 0.8}};
  for (const FiringLaw& law : kLaws) {
    for (const int64_t n : {1000, 8192}) {
      const auto p = FiringProbabilities(law, n);
      ASSERT_THAT(p.status(), IsOk()) << law.density;
      const double total = std::accumulate(p->begin(), p->end(), 0.0);
      EXPECT_NEAR(total / double(n), law.density, 1e-9);
      const double hot =
          std::accumulate(p->begin(), p->begin() + std::llround(law.hot_frac * double(n)), 0.0);
      EXPECT_NEAR(hot / total, law.hot_share, 0.02);
      EXPECT_TRUE(std::is_sorted(p->rbegin(), p->rend()));
      EXPECT_LE(p->front(), kMaxFiring);
      EXPECT_GT(p->back(), 0);
    }
  }
}

// A tenth of the neurons cannot make more than a tenth over the density of all activations.
TEST(FiringLaw, AnImpossibleLawIsRefused) {
  EXPECT_EQ(FiringProbabilities({0.5, 0.1, 0.9}, 1000).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(FiringProbabilities({0.1, 0.5, 0.2}, 1000).status().code(),
            StatusCode::kInvalidArgument);
}

TEST(NormalQuantile, InvertsTheDistribution) {
  for (const double x : {-4.5, -2.0, -0.3, 0.0, 0.7, 1.5, 3.0}) {
    EXPECT_NEAR(NormalQuantile(std::erfc(-x / std::sqrt(2.0)) / 2), x, 1e-9) << x;
  }
  EXPECT_NEAR(NormalQuantile(0.975), 1.959963984540054, 1e-12);
}

}  // namespace
}  // namespace thermocline::tools
