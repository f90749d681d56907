#include "placement/solver/split_solver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/status_matchers.h"
#include "tests/unit/placement/split_instances.h"
#include "tests/unit/placement/split_oracle.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using thermocline::testing::IsOk;

constexpr double kRounding = 1e-9;

// Solves and compares with brute force; returns value / optimum - 1.
double CheckAgainstBruteForce(const SplitProblem& problem, double latency) {
  const SplitObjective objective{latency};
  const double optimum = BestValueByBruteForce(problem, objective);
  const Result<SplitSolution> solution = SolveSplit(problem, {.objective = objective});
  if (!solution.ok()) {
    EXPECT_TRUE(std::isinf(optimum)) << solution.status() << " optimum " << optimum;
    return 0;
  }
  EXPECT_THAT(CheckSplit(problem, solution->split), IsOk());
  EXPECT_NEAR(objective.Value(Evaluate(problem, solution->split)), solution->value, kRounding);
  EXPECT_LE(solution->lower_bound, optimum * (1 + kRounding));
  EXPECT_GE(solution->value, optimum * (1 - kRounding));
  return solution->value / optimum - 1;
}

SmallShape ShapeOf(uint64_t seed) {
  SmallShape shape;
  shape.n_devices = 2 + static_cast<int>(seed % 2);
  shape.n_layers = shape.n_devices == 2 ? 2 + static_cast<int>(seed / 2 % 3) : 2;
  shape.n_blocks = 3 + static_cast<int>(seed / 6 % 3);
  shape.proportional = seed / 3 % 2 == 0;
  return shape;
}

TEST(SplitSolver, BoundNeverAboveAndValueNeverBelowBruteForce) {
  for (const double latency : {1.0, 0.0, 0.6}) {
    double worst = 0;
    constexpr int kSeeds = 140;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << " latency " << latency);
      const double excess = CheckAgainstBruteForce(RandomProblem(ShapeOf(seed), seed), latency);
      worst = std::max(worst, excess);
    }
    // Rounding prices to one split per layer would be 2 % above on average and 25 % at worst here.
    EXPECT_LE(worst, 1e-9) << latency;
  }
}

TEST(SplitSolver, KeepsLeastPartsAndIsAsGoodAsBruteForce) {
  for (const double latency : {1.0, 0.0, 0.6}) {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << " latency " << latency);
      SmallShape shape = ShapeOf(seed);
      shape.least_parts = true;
      EXPECT_LE(CheckAgainstBruteForce(RandomProblem(shape, seed), latency), 1e-9);
    }
  }
}

TEST(SplitSolver, NeverWorseThanAnyBaseline) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const SplitProblem problem = RandomProblem({4, 6, 8, seed % 2 == 0, false}, seed);
    for (const double latency : {1.0, 0.0}) {
      SplitOptions options{.objective = {latency}};
      const Result<SplitSolution> best = SolveSplit(problem, options);
      ASSERT_THAT(best.status(), IsOk()) << seed;
      EXPECT_LE(best->lower_bound, best->value) << seed;
      for (const SplitPolicy policy : {SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional,
                                       SplitPolicy::kPipelineOnly, SplitPolicy::kPowerInfer}) {
        options.policy = policy;
        const Result<SplitSolution> other = SolveSplit(problem, options);
        if (!other.ok()) continue;
        EXPECT_THAT(CheckSplit(problem, other->split), IsOk());
        EXPECT_GE(other->value, best->value) << seed << SplitPolicyName(policy);
        EXPECT_LE(best->lower_bound, other->value) << seed;
      }
    }
  }
}

TEST(SplitSolver, EqualInputsGiveEqualSplits) {
  const SplitProblem problem = RandomProblem({3, 5, 8}, 3);
  const Result<SplitSolution> a = SolveSplit(problem, {}), b = SolveSplit(problem, {});
  ASSERT_THAT(a.status(), IsOk());
  EXPECT_EQ(a->split, b->split);
  EXPECT_EQ(a->lower_bound, b->lower_bound);
}

TEST(SplitSolver, OrderOfHelpersDoesNotMatter) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SplitProblem problem = RandomProblem({4, 6, 8}, seed);
    const Result<SplitSolution> before = SolveSplit(problem, {});
    std::reverse(problem.devices.begin() + 1, problem.devices.end());
    for (SplitLayer& layer : problem.layers) {
      std::reverse(layer.seconds.begin() + 1, layer.seconds.end());
    }
    const Result<SplitSolution> after = SolveSplit(problem, {});
    ASSERT_THAT(before.status(), IsOk()) << seed;
    ASSERT_THAT(after.status(), IsOk()) << seed;
    // Ties break otherwise, so values may differ within what both certify.
    EXPECT_GE(after->value, before->lower_bound * (1 - kRounding)) << seed;
    EXPECT_GE(before->value, after->lower_bound * (1 - kRounding)) << seed;
    EXPECT_NEAR(after->value / before->value, 1, 0.02) << seed;
  }
}

TEST(SplitSolver, DoesNotSplitWhenLinksCostMoreThanTheySave) {
  SplitProblem problem = RandomProblem({3, 4, 8}, 1);
  problem.devices[0].memory_bytes = 1 << 20;
  for (size_t d = 1; d < 3; ++d) problem.devices[d].round_trip_s = 1000;
  const Result<SplitSolution> solution = SolveSplit(problem, {});
  ASSERT_THAT(solution.status(), IsOk());
  for (const LayerSplit& ranges : solution->split) {
    EXPECT_EQ(ranges[0].size(), 8);
    EXPECT_TRUE(ranges[1].empty() && ranges[2].empty());
  }
  EXPECT_NEAR(solution->gap(), 0, 1e-3);
}

TEST(SplitSolver, SaysHowMuchMemoryIsMissing) {
  SplitProblem problem = RandomProblem({2, 2, 4}, 1);
  problem.devices[0].memory_bytes = 30;
  problem.devices[1].memory_bytes = 20;
  const Status status = SolveSplit(problem, {}).status();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("need=80 have=50"));
}

TEST(SplitSolver, RefusesWrongTables) {
  SplitProblem problem = RandomProblem({2, 2, 4}, 1);
  problem.layers[1].seconds[1][2] = -1;
  const Status status = SolveSplit(problem, {}).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("layer=1 device=1"));
  EXPECT_FALSE(SolveSplit(RandomProblem({}, 1), {.objective = {1.5}}).ok());
}

}  // namespace
}  // namespace thermocline::placement
