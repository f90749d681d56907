// The inner solver at full size: prints a table and checks time-free properties.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "placement/solver/split_solver.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/placement/split_instances.h"

namespace thermocline::placement {
namespace {

using thermocline::testing::IsOk;

double Value(const SplitProblem& problem, SplitPolicy policy) {
  const Result<SplitSolution> solution = SolveSplit(problem, {.policy = policy});
  return solution.ok() ? solution->value : 0;
}

TEST(SplitScale, GapAndMarginOverFrequencyGreedyAtEveryLatency) {
  std::printf("%8s %9s %9s %6s %6s %7s %8s %8s %8s\n", "one way", "bound ms", "plan ms", "gap %",
              "rounds", "solve s", "greedy %", "proport%", "PI %");
  for (const double one_way_us : {2.0, 10.0, 50.0, 100.0, 200.0, 500.0}) {
    const SplitProblem problem = FullSizeProblem({.one_way_s = one_way_us * 1e-6});
    const auto start = std::chrono::steady_clock::now();
    const Result<SplitSolution> solution = SolveSplit(problem, {});
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_THAT(solution.status(), IsOk());
    const double greedy = Value(problem, SplitPolicy::kFrequencyGreedy);
    const auto over = [&](double value) { return 100 * (value / solution->value - 1); };
    std::printf("%5.0f us %9.3f %9.3f %6.2f %6d %7.2f %8.1f %8.1f %8.1f\n", one_way_us,
                1e3 * solution->lower_bound, 1e3 * solution->value, 100 * solution->gap(),
                solution->rounds, seconds, over(greedy),
                over(Value(problem, SplitPolicy::kProportional)),
                over(Value(problem, SplitPolicy::kPowerInfer)));
    EXPECT_THAT(CheckSplit(problem, solution->split), IsOk());
    EXPECT_LE(solution->gap(), 0.02) << one_way_us;
    if (one_way_us == 200) {
      EXPECT_GE(greedy, 1.25 * solution->value);
    }
  }
}

}  // namespace
}  // namespace thermocline::placement
