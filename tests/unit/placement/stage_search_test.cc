#include "placement/solver/stage_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "placement/solver/cluster_bound.h"
#include "placement/solver/stage_moves.h"
#include "tests/support/status_matchers.h"

namespace thermocline::placement {
namespace {

using thermocline::testing::IsOk;

// Workers with a speed and memory; equal layers of 8 blocks of 10 bytes.
class Workers : public StageModel {
 public:
  struct Worker {
    double speed = 1;
    uint64_t memory = 0;
  };
  Workers(int n_layer, std::vector<Worker> workers, double link_s)
      : n_layer_(n_layer), workers_(std::move(workers)), link_s_(link_s) {}

  int n_layer() const override { return n_layer_; }
  int n_devices() const override { return static_cast<int>(workers_.size()); }
  int DeviceType(int device) const override {
    for (int d = 0;; ++d) {
      if (workers_[d].speed == workers_[device].speed &&
          workers_[d].memory == workers_[device].memory) {
        return d;
      }
    }
  }
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override {
    SplitProblem problem;
    for (size_t i = 0; i < group.size(); ++i) {
      SplitDevice device{.memory_bytes = workers_[group[i]].memory};
      if (i > 0) device.round_trip_s = 2 * link_s_;
      problem.devices.push_back(device);
    }
    for (int l = begin; l < end; ++l) {
      SplitLayer& layer = problem.layers.emplace_back();
      layer.fixed_s = 1 / workers_[group[0]].speed;
      layer.block_bytes.assign(8, 10);
      for (const int d : group) {
        std::vector<double>& seconds = layer.seconds.emplace_back(1, 0.0);
        for (int k = 0; k < 8; ++k) {
          seconds.push_back(seconds.back() + (8 - k) * 0.5 / workers_[d].speed);
        }
      }
    }
    return problem;
  }
  double HopSeconds(int, int) const override { return link_s_; }

 private:
  int n_layer_;
  std::vector<Worker> workers_;
  double link_s_;
};

void CheckPlan(const StageModel& model, const StageSearchResult& plan) {
  int layer = 0;
  std::set<int> used;
  double seconds = 0;
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const StageChoice& stage = plan.stages[s];
    EXPECT_EQ(stage.begin, layer);
    layer = stage.end;
    for (const int d : stage.group) EXPECT_TRUE(used.insert(d).second) << "twice: " << d;
    const auto problem = model.Problem(stage.begin, stage.end, stage.group);
    ASSERT_TRUE(problem);
    EXPECT_THAT(CheckSplit(*problem, stage.solution.split), IsOk());
    seconds += Evaluate(*problem, stage.solution.split).seconds;
    if (s > 0) seconds += model.HopSeconds(plan.stages[s - 1].group[0], stage.group[0]);
  }
  EXPECT_EQ(layer, model.n_layer());
  EXPECT_NEAR(seconds, plan.seconds, 1e-9);
  EXPECT_LE(plan.lower_bound, plan.value);
}

StageSearchResult Search(const StageModel& model, const SplitOptions& inner) {
  Result<StageSearchResult> plan = SearchStages(model, {.inner = inner});
  EXPECT_THAT(plan.status(), IsOk());
  if (!plan.ok()) return {};
  CheckPlan(model, *plan);
  return std::move(plan).value();
}

TEST(StageSearch, ABoundEndsWhenItIsToldTo) {
  const Workers model(8, {{1, 1000}, {2, 500}}, 0.01);
  std::atomic<bool> stop{false};
  EXPECT_GT(ClusterBound(model, {.latency = 1}, &stop), 0);
  stop = true;
  EXPECT_EQ(ClusterBound(model, {.latency = 1}, &stop), 0);
}

// Layers that differ by next to nothing are asked one by one, equal ones once.
class Wrinkled final : public Workers {
 public:
  using Workers::Workers;
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override {
    std::optional<SplitProblem> problem = Workers::Problem(begin, end, group);
    for (int l = begin; l < end; ++l) {
      problem->layers[static_cast<size_t>(l - begin)].fixed_s *= 1 + 1e-12 * l;
    }
    return problem;
  }
};

TEST(StageSearch, EqualLayersGiveThePlansAndBoundsOfLayersThatDiffer) {
  for (const double latency : {0.0, 0.5, 1.0}) {
    const std::vector<Workers::Worker> workers = {{3, 200}, {1, 400}, {2, 300}};
    const SplitOptions options = {.objective = {.latency = latency}};
    const StageSearchResult equal = Search(Workers(9, workers, 0.2), options);
    const StageSearchResult unequal = Search(Wrinkled(9, workers, 0.2), options);
    EXPECT_NEAR(equal.value, unequal.value, 1e-3 * unequal.value) << latency;
    // Where both count, prices of time are looked for, too, by columns of one layer if all are
    // equal and of three if they differ, and end elsewhere.
    const double apart = latency > 0 && latency < 1 ? 0.05 : 1e-3;
    EXPECT_NEAR(equal.lower_bound, unequal.lower_bound, apart * unequal.lower_bound) << latency;
  }
}

TEST(StageSearch, OneWorkerThatHoldsAllIsEnoughBehindSlowLinks) {
  const Workers model(8, {{1, 1000}, {1, 1000}, {1, 1000}}, 100);
  const StageSearchResult plan = Search(model, {});
  ASSERT_EQ(plan.stages.size(), 1u);
  EXPECT_EQ(plan.stages[0].group.size(), 1u);
  EXPECT_DOUBLE_EQ(plan.seconds, 8 * (1 + 18));
}

TEST(StageSearch, ForLatencyFastLinksSplitTheLayers) {
  const Workers model(8, {{1, 1000}, {1, 1000}}, 0.01);
  const StageSearchResult plan = Search(model, {});
  ASSERT_EQ(plan.stages.size(), 1u);
  EXPECT_EQ(plan.stages[0].group.size(), 2u);
  // Of 8 * 19 the lead's 8 * 1 cannot be shared.
  EXPECT_LT(plan.seconds, 0.55 * 8 * 18 + 8 + 8 * 0.02 + 5);
}

TEST(StageSearch, ForThroughputWorkersShareTheLoad) {
  const Workers model(8, {{1, 1000}, {1, 1000}, {1, 1000}, {1, 1000}}, 1);
  const StageSearchResult plan = Search(model, {.objective = {0}});
  // Four workers, 152 s of work: 38 each at best.
  EXPECT_LE(plan.bottleneck_s, 1.05 * 38);
}

TEST(StageSearch, PipelineFollowsMemoryAndSpeed) {
  // 640 bytes; none holds all.
  const Workers model(8, {{2, 400}, {1, 250}, {1, 250}}, 50);
  const StageSearchResult plan = Search(model, {.policy = SplitPolicy::kPipelineOnly});
  for (const StageChoice& stage : plan.stages) EXPECT_EQ(stage.group.size(), 1u);
  ASSERT_EQ(plan.stages.size(), 2u);
  // Five layers on the fast worker, three on one other.
  EXPECT_DOUBLE_EQ(plan.seconds, 5 * 9.5 + 3 * 19 + 50);
}

TEST(StageSearch, NeverWorseThanPoliciesOfTheWhole) {
  for (const double link_s : {0.1, 2.0, 20.0}) {
    const Workers model(6, {{3, 150}, {1, 300}, {1, 300}}, link_s);
    const StageSearchResult best = Search(model, {});
    for (const SplitPolicy policy :
         {SplitPolicy::kPipelineOnly, SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional}) {
      EXPECT_GE(Search(model, {.policy = policy}).value, best.value * (1 - 1e-9))
          << SplitPolicyName(policy) << " " << link_s;
    }
  }
}

// Twelve of other speeds each: more kinds of groups than can be tried. None holds all.
Workers TwelveUnlike(double link_s) {
  std::vector<Workers::Worker> workers;
  for (int i = 0; i < 12; ++i) {
    workers.push_back({1 + 0.37 * (i * 7 % 12), static_cast<uint64_t>(120 + 20 * (i * 5 % 12))});
  }
  return Workers(8, workers, link_s);
}

TEST(StageSearch, ManyUnlikeWorkersShareStagesWhereLinksAreFast) {
  const Workers model = TwelveUnlike(0.001);
  const StageSearchResult plan = Search(model, {});
  size_t largest = 0;
  for (const StageChoice& stage : plan.stages) largest = std::max(largest, stage.group.size());
  EXPECT_GT(largest, 4u);       // than any group that is tried in all combinations
  EXPECT_LT(plan.gap(), 0.35);  // a dozen share eight blocks of a layer
}

TEST(StageSearch, ManyUnlikeWorkersAreAllBusyForThroughput) {
  const StageSearchResult plan = Search(TwelveUnlike(0.001), {.objective = {0}});
  EXPECT_LT(plan.gap(), 0.15);
}

TEST(StageSketch, IsNearWhatASolverFinds) {
  for (const double link_s : {0.01, 1.0}) {
    const Workers model(8, {{2, 400}, {1, 300}, {3, 250}}, link_s);
    StageSketch sketch(model);
    for (const std::vector<int>& group :
         {std::vector{0}, std::vector{0, 1}, std::vector{2, 0}, std::vector{1, 0, 2}}) {
      for (const int length : {1, 3, 4, 7}) {
        SCOPED_TRACE(::testing::PrintToString(group) + " of " + std::to_string(length));
        const auto problem = model.Problem(0, length, group);
        ASSERT_TRUE(problem);
        const auto solved = SolveSplit(*problem, {});
        const StageEstimate guess = sketch.Of(group, length, {}, 0);
        ASSERT_EQ(solved.ok(), !std::isinf(guess.seconds));
        if (!solved.ok()) continue;
        EXPECT_NEAR(guess.seconds / solved->cost.seconds, 1, 0.15);
        const auto evenly = SolveSplit(*problem, {.objective = {0}});
        EXPECT_NEAR(sketch.Of(group, length, {}, 1).bottleneck_s / evenly->cost.bottleneck_s(), 1,
                    0.15);
      }
    }
  }
}

TEST(StageMoves, LayersAreDealtAndEveryoneHasOnePlace) {
  const Workers model = TwelveUnlike(0.1);
  StageSketch sketch(model);
  for (const double latency : {1.0, 0.5, 0.0}) {
    const std::vector<Cut> cuts = ImproveStages(sketch, {latency}, {{0}, {1}, {2}, {3}}, nullptr);
    ASSERT_FALSE(cuts.empty());
    std::set<int> used;
    int layer = 0;
    for (const Cut& cut : cuts) {
      EXPECT_EQ(cut.begin, layer);
      EXPECT_LT(cut.begin, cut.end);
      layer = cut.end;
      for (const int d : cut.group) EXPECT_TRUE(used.insert(d).second) << d;
    }
    EXPECT_EQ(layer, model.n_layer());
  }
  EXPECT_TRUE(ImproveStages(sketch, {}, Groups(9, {0}), nullptr).empty());  // nine of eight layers
}

TEST(StageSearch, SaysThatNothingFits) {
  const Workers model(8, {{1, 100}, {1, 100}}, 1);
  EXPECT_EQ(SearchStages(model, {}).status().code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace thermocline::placement
