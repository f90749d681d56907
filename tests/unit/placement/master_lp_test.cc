#include "placement/solver/master_lp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace thermocline::placement {
namespace {

constexpr double kNear = 1e-7;

double WeightOfLayer(const MasterLp& lp, int layer) {
  double sum = 0;
  for (int j = 0; j < lp.n_columns(); ++j) sum += lp.layer(j) == layer ? lp.weight(j) : 0;
  return sum;
}

TEST(MasterLp, SharesAResourceByWhatItSaves) {
  // Both layers would rather be fast, which takes 1 of a resource of 1.5; layer 0 gains more.
  MasterLp lp(2, {{.limit = 1.5}}, 0);
  const int slow_0 = lp.AddColumn(0, 10, {0});
  const int slow_1 = lp.AddColumn(1, 6, {0});
  const int fast_0 = lp.AddColumn(0, 2, {1});
  const int fast_1 = lp.AddColumn(1, 2, {1});
  ASSERT_TRUE(lp.Solve());
  EXPECT_NEAR(lp.objective(), 2 + 4, kNear);
  EXPECT_NEAR(lp.weight(fast_0), 1, kNear);
  EXPECT_NEAR(lp.weight(fast_1), 0.5, kNear);
  EXPECT_NEAR(lp.weight(slow_1), 0.5, kNear);
  EXPECT_NEAR(lp.weight(slow_0), 0, kNear);
  EXPECT_NEAR(lp.price(0), 4, kNear);
}

TEST(MasterLp, WithTheBottleneckTheLargestUsageCounts) {
  MasterLp lp(1, {{.limit = 0, .minus_z = true}, {.limit = 0, .minus_z = true}}, 1);
  lp.AddColumn(0, 0, {6, 0});
  lp.AddColumn(0, 0, {0, 3});
  ASSERT_TRUE(lp.Solve());
  EXPECT_NEAR(lp.objective(), 2, kNear);  // a third on the slower one
  EXPECT_NEAR(lp.price(0) + lp.price(1), 1, kNear);
}

TEST(MasterLp, EqualColumnsDoNotCycle) {
  constexpr int kLayers = 20;
  MasterLp lp(kLayers, {{.limit = 1}, {.limit = 1}}, 0);
  for (int l = 0; l < kLayers; ++l) {
    for (int copy = 0; copy < 6; ++copy) lp.AddColumn(l, 1 + copy % 2, {0.05, 0.05});
  }
  ASSERT_TRUE(lp.Solve());
  EXPECT_NEAR(lp.objective(), kLayers, kNear);
}

// Two columns that differ by less than their inverse can tell: the simplex steps from one to the
// other, and when the basis of both is inverted anew, it is singular.
TEST(MasterLp, SaysThatABasisIsSingularAndKeepsTheLastOne) {
  constexpr int kLayers = 200;  // as many pivots as bring the basis to be inverted again
  constexpr double kHuge = 0x1p57 - 32, kNext = kHuge + 16;  // doubles next to one another
  MasterLp lp(kLayers, {{.limit = kNext}}, 0);
  lp.AddColumn(0, 1, {kHuge});
  lp.AddColumn(0, 0.5, {kNext});
  for (int l = 1; l < kLayers; ++l) {
    lp.AddColumn(l, 2, {0});
    lp.AddColumn(l, 0, {0});
  }
  EXPECT_FALSE(lp.Solve());
  for (int l = 0; l < kLayers; ++l) EXPECT_NEAR(WeightOfLayer(lp, l), 1, kNear) << l;
  EXPECT_TRUE(std::isfinite(lp.objective()));
  EXPECT_TRUE(std::isfinite(lp.price(0)));
  EXPECT_GE(lp.price(0), 0);
}

TEST(MasterLp, WhateverTheNumbersItEndsWithFinitePrices) {
  constexpr double kValues[] = {0, 1e-300, 1e-17, 1e-9, 1, 1 + 1e-15, 1e9, 1e17, 1e30};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const auto draw = [&] { return kValues[random() % std::size(kValues)]; };
    const int n_layers = 1 + static_cast<int>(random() % 6);
    MasterLp lp(n_layers, {{draw()}, {draw()}, {0, true}, {0, true}}, 0.5);
    for (int l = 0; l < n_layers; ++l) lp.AddColumn(l, draw(), {draw(), draw(), draw(), draw()});
    for (int round = 0; round < 4; ++round) {
      const bool solved = lp.Solve();
      for (int r = 0; r < 4; ++r) {
        EXPECT_TRUE(std::isfinite(lp.price(r)) && lp.price(r) >= 0) << seed;
      }
      if (!solved) break;
      for (int l = 0; l < n_layers; ++l) lp.AddColumn(l, draw(), {draw(), draw(), draw(), draw()});
    }
  }
}

}  // namespace
}  // namespace thermocline::placement
