// The inner solver at full size: prints a table and checks time-free properties.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "placement/solver/stage_search.h"
#include "tests/support/status_matchers.h"
#include "tests/unit/placement/split_instances.h"

namespace thermocline::placement {
namespace {

using thermocline::testing::IsOk;

double Value(const SplitProblem& problem, SplitPolicy policy) {
  const Result<SplitSolution> solution = SolveSplit(problem, {.policy = policy});
  return solution.ok() ? solution->value : 0;
}

// The devices of the full-size problem as sixteen nodes of four types on one network.
class Nodes : public StageModel {
 public:
  explicit Nodes(double one_way_s)
      : all_(FullSizeProblem({.one_way_s = one_way_s})), one_way_s_(one_way_s) {}

  int n_layer() const override { return static_cast<int>(all_.layers.size()); }
  int n_devices() const override { return static_cast<int>(all_.devices.size()); }
  int DeviceType(int device) const override { return device % 4 == 2 ? 1 : device % 4; }
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override {
    SplitProblem problem;
    for (const int d : group) {
      SplitDevice device{.memory_bytes = all_.devices[d].memory_bytes,
                         .part_s = all_.devices[d].part_s};
      if (d != group[0]) {
        device.send_s = 1e-6;
        device.round_trip_s = 2 * (one_way_s_ + 1.3e-6);
        device.merge_s = 0.5e-6;
      }
      problem.devices.push_back(device);
    }
    for (int l = begin; l < end; ++l) {
      SplitLayer& layer = problem.layers.emplace_back();
      layer.block_bytes = all_.layers[l].block_bytes;
      for (const int d : group) layer.seconds.push_back(all_.layers[l].seconds[d]);
    }
    return problem;
  }
  double HopSeconds(int, int) const override { return one_way_s_; }

 private:
  SplitProblem all_;
  double one_way_s_;
};

TEST(StageScale, WholePlans) {
  std::printf("%8s %8s %9s %12s %7s %7s %8s\n", "one way", "latency", "token ms", "bottleneck ms",
              "stages", "gap %", "solve s");
  for (const double one_way_us : {10.0, 200.0}) {
    const Nodes model(one_way_us * 1e-6);
    for (const double latency : {1.0, 0.0}) {
      const auto start = std::chrono::steady_clock::now();
      const Result<StageSearchResult> plan =
          SearchStages(model, {.inner = {.objective = {latency}}});
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      ASSERT_THAT(plan.status(), IsOk());
      std::printf("%5.0f us %8.1f %9.2f %12.2f %8zu %7.1f %8.1f\n", one_way_us, latency,
                  1e3 * plan->seconds, 1e3 * plan->bottleneck_s, plan->stages.size(),
                  100 * plan->gap(), seconds);
      for (const StageChoice& stage : plan->stages) {
        const auto problem = model.Problem(stage.begin, stage.end, stage.group);
        EXPECT_THAT(CheckSplit(*problem, stage.solution.split), IsOk());
      }
      EXPECT_LE(plan->lower_bound, plan->value);
    }
  }
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
