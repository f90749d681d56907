#include "placement/neuron_heat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace thermocline::placement {
namespace {

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

model::LayerActivity Activity() {
  model::LayerActivity activity;
  activity.fired = {10, 900, 0, 1000, 40, 5, 300, 45};
  return activity;
}

TEST(NeuronHeat, FrequenciesStandInHeatOrder) {
  const NeuronHeat heat = NeuronHeat::Of(Activity(), 1000);
  EXPECT_EQ(heat.fires(), (std::vector<double>{1, 0.9, 0.3, 0.045, 0.04, 0.01, 0.005, 0}));
  EXPECT_EQ(heat.Union(1), heat.fires());
}

TEST(NeuronHeat, WithoutAMeasuredUnionTokensChooseIndependently) {
  const NeuronHeat heat = NeuronHeat::Of(Activity(), 1000);
  const std::vector<double> four = heat.Union(4);
  for (size_t i = 0; i < four.size(); ++i) {
    EXPECT_NEAR(four[i], 1 - std::pow(1 - heat.fires()[i], 4), 1e-12);
  }
}

TEST(NeuronHeat, TheMeanUnionIsTheMeasuredOne) {
  model::LayerActivity activity = Activity();
  const NeuronHeat independent = NeuronHeat::Of(activity, 1000);
  activity.union_shares = {0.2875f, 0.33f, 0.38f, 0.42f, 0.47f, 0.53f, 0.6f};
  const NeuronHeat heat = NeuronHeat::Of(activity, 1000);
  for (size_t i = 1; i < model::kNumUnionBatches; ++i) {
    const int n = model::kUnionBatches[i];
    EXPECT_NEAR(Mean(heat.Union(n)), activity.union_shares[i], 1e-4) << n;
    EXPECT_LE(Mean(heat.Union(n)), Mean(independent.Union(n)) + 1e-9) << n;
  }
  double previous = 0;
  for (int n = 1; n <= 200; ++n) {
    const std::vector<double> needed = heat.Union(n);
    EXPECT_TRUE(std::is_sorted(needed.rbegin(), needed.rend())) << n;
    EXPECT_GE(Mean(needed), previous) << n;
    previous = Mean(needed);
  }
}

TEST(NeuronHeat, UniformNeuronsAreAllAlike) {
  EXPECT_EQ(NeuronHeat::Uniform(3, 0.5).Union(2), (std::vector<double>{0.75, 0.75, 0.75}));
  EXPECT_EQ(NeuronHeat::Uniform(2, 1).Union(64), (std::vector<double>{1, 1}));
}

}  // namespace
}  // namespace thermocline::placement
