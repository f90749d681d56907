#include "model/neuron_activity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"

namespace thermocline::model {
namespace {

using Counts = std::vector<uint64_t>;

TEST(Density, IsTheShareOfPairs) {
  EXPECT_DOUBLE_EQ(Density(Counts{10, 0, 5, 5}, 10), 0.5);
  EXPECT_EQ(Density(Counts{}, 10), 0);
  EXPECT_EQ(Density(Counts{0, 0}, 0), 0);
}

TEST(Gini, OfHandMadeCounts) {
  EXPECT_DOUBLE_EQ(Gini(Counts{7, 7, 7, 7}), 0);
  EXPECT_DOUBLE_EQ(Gini(Counts{0, 0, 0, 9}), 0.75);  // (n - 1) / n for one that does it all
  // Ascending 1 2 3: (-2 * 1 + 0 * 2 + 2 * 3) / (3 * 6).
  EXPECT_DOUBLE_EQ(Gini(Counts{3, 1, 2}), 4.0 / 18);
  EXPECT_EQ(Gini(Counts{0, 0}), 0);
}

TEST(Gini, DoesNotDependOnOrderOrScale) {
  EXPECT_DOUBLE_EQ(Gini(Counts{5, 1, 0, 12}), Gini(Counts{12, 0, 5, 1}));
  EXPECT_DOUBLE_EQ(Gini(Counts{5, 1, 0, 12}), Gini(Counts{50, 10, 0, 120}));
}

TEST(ShareForMass, TakesTheBusiestFirst) {
  const Counts counts = {1, 60, 20, 10, 9};
  EXPECT_DOUBLE_EQ(ShareForMass(counts, 0.8), 0.4);
  EXPECT_DOUBLE_EQ(ShareForMass(counts, 0.6), 0.2);
  EXPECT_DOUBLE_EQ(ShareForMass(counts, 1.0), 1.0);
  EXPECT_EQ(ShareForMass(Counts{0, 0}, 0.8), 0);
}

TEST(ByRank, Descends) { EXPECT_EQ(ByRank(Counts{1, 5, 3}), (Counts{5, 3, 1})); }

// Windows of one token each; neuron i fires where `fires(window, i)`.
template <typename Fires>
ActivityMasks MasksOf(int n_windows, int n_ff, Fires fires) {
  ActivityMasks masks(n_ff);
  std::vector<float> values(static_cast<size_t>(n_ff));
  for (int w = 0; w < n_windows; ++w) {
    for (int i = 0; i < n_ff; ++i) values[static_cast<size_t>(i)] = fires(w, i) ? -1.0f : 0.25f;
    masks.Add(values, 0.5f, w);
  }
  return masks;
}

TEST(ActivityMasks, KeepOneBitPerNeuronOfAnyNumber) {
  for (const int n_ff : {1, 63, 64, 65, 130}) {
    const auto masks = MasksOf(3, n_ff, [](int w, int i) { return (i + w) % 3 == 0; });
    ASSERT_EQ(masks.n_tokens(), 3u);
    for (size_t t = 0; t < 3; ++t) {
      EXPECT_EQ(masks.window(t), static_cast<int>(t));
      for (int i = 0; i < n_ff; ++i) {
        EXPECT_EQ(masks.active(t, i), (i + static_cast<int>(t)) % 3 == 0) << n_ff << " " << i;
      }
    }
  }
}

TEST(UnionCurve, StaysFlatWhenAllTokensUseTheSameNeurons) {
  const auto masks = MasksOf(80, 100, [](int, int i) { return i < 10; });
  for (const float share : UnionCurve(masks, 1)) EXPECT_FLOAT_EQ(share, 0.1f);
}

TEST(UnionCurve, AddsUpWhenEveryWindowUsesItsOwn) {
  const auto masks = MasksOf(100, 100, [](int w, int i) { return w == i; });
  const UnionShares shares = UnionCurve(masks, 7);
  for (size_t b = 0; b < kNumUnionBatches; ++b) {
    EXPECT_FLOAT_EQ(shares[b], static_cast<float>(kUnionBatches[b]) / 100);
  }
}

TEST(UnionCurve, OfIndependentNeuronsIsTheirBinomial) {
  for (const uint64_t seed : {1u, 2u, 3u}) {
    const auto masks = MasksOf(400, 512, [&](int w, int i) {
      return UniformAt(seed, static_cast<uint64_t>(w * 512 + i)) < 0.1;
    });
    const UnionShares shares = UnionCurve(masks, seed);
    for (size_t b = 0; b < kNumUnionBatches; ++b) {
      EXPECT_NEAR(shares[b], 1 - std::pow(0.9, kUnionBatches[b]), 0.02) << "seed " << seed;
    }
  }
}

TEST(UnionCurve, FewWindowsAndNoneAreFine) {
  const auto masks = MasksOf(2, 10, [](int w, int i) { return i == w; });
  const UnionShares shares = UnionCurve(masks, 1);
  EXPECT_FLOAT_EQ(shares[0], 0.1f);
  EXPECT_FLOAT_EQ(shares.back(), 0.2f);
  EXPECT_EQ(UnionCurve(ActivityMasks(10), 1), UnionShares{});
}

TEST(UnionShareAt, FollowsTheCurveOrIndependence) {
  const UnionShares curve = {0.11f, 0.2f, 0.3f, 0.35f, 0.4f, 0.45f, 0.5f};
  EXPECT_DOUBLE_EQ(UnionShareAt(curve, 0.1, 1), 0.1);
  for (size_t b = 1; b < kNumUnionBatches; ++b) {
    EXPECT_FLOAT_EQ(static_cast<float>(UnionShareAt(curve, 0.1, kUnionBatches[b])), curve[b]);
  }
  EXPECT_NEAR(UnionShareAt(curve, 0.1, 6), 0.3 + 0.05 * std::log2(1.5), 1e-6);
  EXPECT_NEAR(UnionShareAt(curve, 0.1, 128), 0.75, 1e-6);
  double before = 0;
  for (int64_t n = 1; n < 200; ++n) {
    EXPECT_GT(UnionShareAt(curve, 0.1, n), before) << n;
    before = UnionShareAt(curve, 0.1, n);
  }
  EXPECT_DOUBLE_EQ(UnionShareAt({}, 0.5, 3), 0.875);
}

TEST(ValueRange, KeepsExtremesAndMeanMagnitude) {
  ValueRange range;
  range.Add(std::vector<float>{1, -3});
  range.Add(std::vector<float>{});
  range.Add(std::vector<float>{2});
  EXPECT_EQ(range.min, -3);
  EXPECT_EQ(range.max, 2);
  EXPECT_DOUBLE_EQ(range.abs_mean(), 2);
}

TEST(MagnitudeHistogram, QuantilesAreWithinABin) {
  MagnitudeHistogram histogram;
  std::vector<float> values;
  for (int i = 1; i <= 10000; ++i) values.push_back(static_cast<float>(i % 2 == 0 ? i : -i) / 1000);
  histogram.Add(values);
  for (const double q : {0.01, 0.25, 0.5, 0.9, 1.0}) {
    EXPECT_NEAR(histogram.Quantile(q) / (10 * q), 1, 1.0 / 32) << q;
  }
}

TEST(MagnitudeHistogram, ZerosAndHugeValuesHaveTheirPlace) {
  MagnitudeHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  histogram.Add(std::vector<float>{0, 0, 0, 1e-30f, 1e30f});
  EXPECT_EQ(histogram.Quantile(0.8), 0);
  EXPECT_GT(histogram.Quantile(1.0), 1e6f);
  EXPECT_EQ(histogram.Quantiles().size(), kNumQuantiles);
}

}  // namespace
}  // namespace thermocline::model
