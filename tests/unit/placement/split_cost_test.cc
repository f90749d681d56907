#include "placement/solver/split_cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tests/support/status_matchers.h"
#include "tests/unit/placement/split_instances.h"

namespace thermocline::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::IsOk;

SplitProblem ThreeDevices() {
  SplitProblem problem;
  problem.devices = {{100, 1, 0, 0, 0, 0}, {100, 2, 1, 0.5, 10, 0.5}, {100, 1, 3, 2, 20, 0.25}};
  problem.layers = {{5, {10, 10, 10}, {{0, 6, 9, 10}, {0, 12, 18, 20}, {0, 3, 5, 6}}, {}}};
  return problem;
}

TEST(SplitCost, FollowsTheFormula) {
  const SplitProblem problem = ThreeDevices();
  // Device 2 has the longer tail (20 + 1 + 1) than device 1 (10 + 2 + 6), so it is sent to first.
  const Split split = {{{0, 1}, {1, 2}, {2, 3}}};
  EXPECT_THAT(SendOrder(problem, problem.layers[0], split[0]), ElementsAre(2, 1));
  const SplitCost cost = Evaluate(problem, split);
  EXPECT_DOUBLE_EQ(cost.seconds, 5 + std::max({1.0 + 6, 3 + 22.0, 3 + 1 + 18.0}) + 0.75);
  // Of the sends only what keeps the lead's thread counts as its work.
  EXPECT_THAT(cost.busy_s, ElementsAre(5 + 1 + 6 + 2.5 + 0.75, 2 + 6, 1 + 1));
  EXPECT_THAT(cost.bytes, ElementsAre(10, 10, 10));
  EXPECT_DOUBLE_EQ(cost.bottleneck_s(), 15.25);
}

TEST(SplitCost, LeadWithoutARangeHasNoPart) {
  const SplitProblem problem = ThreeDevices();
  const SplitCost cost = Evaluate(problem, {{{0, 0}, {0, 3}, {0, 0}}});
  EXPECT_DOUBLE_EQ(cost.seconds, 5 + 1 + 10 + 2 + 20 + 0.5);
  EXPECT_THAT(cost.busy_s, ElementsAre(5 + 0.5 + 0.5, 22, 0));
}

TEST(SplitCost, SendsDelayTheLeadsOwnPart) {
  SplitProblem problem = ThreeDevices();
  problem.devices[1].round_trip_s = problem.devices[2].round_trip_s = 0;
  problem.devices[1].send_busy_s = 1;
  const LayerSplit ranges = {{0, 1}, {1, 2}, {2, 3}};
  EXPECT_DOUBLE_EQ(FfnSeconds(problem, problem.layers[0], ranges), (1 + 2) + 1 + 6 + 0.75);
}

TEST(SplitCost, NoOneIsBusyLongerThanATokenTakes) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const SplitProblem problem = RandomProblem({4, 2, 4}, seed);
    const Split split(2, {{0, 1}, {1, 2}, {2, 3}, {3, 4}});
    const SplitCost cost = Evaluate(problem, split);
    EXPECT_LE(cost.bottleneck_s(), cost.seconds * (1 + 1e-12)) << seed;
  }
}

TEST(SplitCost, NoOtherSendOrderIsFaster) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const SplitProblem problem = RandomProblem({4, 1, 4}, seed);
    const SplitLayer& layer = problem.layers[0];
    const LayerSplit ranges = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
    std::vector<int> order = {1, 2, 3};
    double best = std::numeric_limits<double>::infinity();
    do {
      double sent = 0, end = 0;
      for (const int d : order) {
        const SplitDevice& device = problem.devices[d];
        sent += device.send_s;
        end = std::max(end, sent + device.round_trip_s + device.part_s + layer.seconds[d][d + 1] -
                                layer.seconds[d][d]);
      }
      best = std::min(best, end);
    } while (std::next_permutation(order.begin(), order.end()));
    double merges = 0;
    for (int d = 1; d < 4; ++d) merges += problem.devices[d].merge_s;
    double lead = problem.devices[0].part_s + layer.seconds[0][1];
    for (int d = 1; d < 4; ++d) lead += problem.devices[d].send_busy_s;
    EXPECT_NEAR(FfnSeconds(problem, layer, ranges), std::max(best, lead) + merges, 1e-12) << seed;
  }
}

TEST(SplitCost, ChecksNameTheBrokenRule) {
  SplitProblem problem = ThreeDevices();
  EXPECT_THAT(CheckSplit(problem, {{{0, 1}, {1, 2}, {2, 3}}}), IsOk());
  EXPECT_THAT(CheckSplit(problem, {{{0, 2}, {1, 2}, {2, 3}}}).message(),
              HasSubstr("block=1 times=2"));
  EXPECT_THAT(CheckSplit(problem, {{{0, 1}, {}, {2, 3}}}).message(), HasSubstr("block=1 times=0"));
  problem.layers[0].least_active = {1, 2, 1};
  EXPECT_THAT(CheckSplit(problem, {{{0, 1}, {1, 2}, {2, 3}}}).message(),
              HasSubstr("device=1 active=1.000000 least=2.000000"));
  problem.layers[0].active = {0, 1, 3, 4};
  EXPECT_THAT(CheckSplit(problem, {{{0, 1}, {1, 2}, {2, 3}}}), IsOk());
  problem.layers[0].active = {0, 1, 3};
  EXPECT_THAT(CheckProblem(problem).message(), HasSubstr("layer=0 active n=3 want=4"));
  problem.layers[0].active.clear();
  problem.devices[0].memory_bytes = 29;
  EXPECT_THAT(CheckSplit(problem, {{{0, 3}, {}, {}}}).message(),
              HasSubstr("device=0 bytes=30 memory=29"));
  problem.layers[0].seconds[2].pop_back();
  EXPECT_THAT(CheckProblem(problem).message(), HasSubstr("layer=0 device=2 n=3 want=4"));
}

}  // namespace
}  // namespace thermocline::placement
