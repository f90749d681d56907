// Cluster files may hold any number above 0; whatever they hold, planning ends with a plan or an
// error, never with a failed check.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <random>

#include "base/str.h"
#include "placement/planner.h"
#include "placement/solver/split_solver.h"
#include "tests/support/status_matchers.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using testing::MakeTinyModelParts;
using testing::TinyModelParts;
using thermocline::testing::IsOk;

constexpr double kTiny = std::numeric_limits<double>::denorm_min();
constexpr double kHuge = std::numeric_limits<double>::max();
constexpr double kNumbers[] = {kTiny, 1e-300, 1e-30, 1e-9, 1e-9,  1,
                               1,     1e9,    1e9,   1e30, 1e300, kHuge};
constexpr uint64_t kMemories[] = {0,           1, 1 << 20, uint64_t{1} << 30, uint64_t{1} << 62,
                                  ~uint64_t{0}};
constexpr double kLatencies[] = {0, kTiny, 1e-12, 0.5, 1 - 1e-12, 1};

template <class T, size_t n>
T OneOf(const T (&values)[n], std::mt19937_64& random) {
  return values[random() % n];
}

SplitProblem HostileProblem(std::mt19937_64& random) {
  const auto seconds = [&] { return std::min(OneOf(kNumbers, random), 1e7); };
  const auto zero_or = [&](double other) { return random() % 3 == 0 ? 0.0 : other; };
  SplitProblem problem;
  const size_t n_devices = 1 + random() % 5, n_layers = 1 + random() % 5;
  for (size_t d = 0; d < n_devices; ++d) {
    problem.devices.push_back({.memory_bytes = OneOf(kMemories, random),
                               .part_s = zero_or(seconds()),
                               .send_s = zero_or(seconds()),
                               .send_busy_s = zero_or(seconds()),
                               .round_trip_s = zero_or(seconds()),
                               .merge_s = zero_or(seconds())});
  }
  for (size_t l = 0; l < n_layers; ++l) {
    SplitLayer& layer = problem.layers.emplace_back();
    layer.fixed_s = zero_or(seconds());
    layer.block_bytes.assign(1 + random() % 8, random() % 2 == 0 ? 10 : uint64_t{1} << 40);
    for (size_t d = 0; d < n_devices; ++d) {
      std::vector<double>& table = layer.seconds.emplace_back(1, 0.0);
      const double equal = zero_or(seconds());
      for (int k = 0; k < layer.n_blocks(); ++k) {
        table.push_back(table.back() + (random() % 2 == 0 ? equal : zero_or(seconds())));
      }
    }
  }
  return problem;
}

TEST(HostileNumbers, ASplitIsWithinItsBoundsOrRefused) {
  int solved = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const SplitProblem problem = HostileProblem(random);
    const SplitObjective objective{OneOf(kLatencies, random)};
    const Result<SplitSolution> solution = SolveSplit(problem, {.objective = objective});
    if (!solution.ok()) {
      EXPECT_EQ(solution.status().code(), StatusCode::kResourceExhausted) << solution.status();
      continue;
    }
    ++solved;
    EXPECT_THAT(CheckSplit(problem, solution->split), IsOk());
    EXPECT_TRUE(std::isfinite(solution->value));
    EXPECT_GE(solution->lower_bound, 0);
    EXPECT_LE(solution->lower_bound, solution->value);
  }
  EXPECT_GT(solved, 100);
}

ClusterProfile HostileCluster(std::mt19937_64& random) {
  const auto figure = [&] {
    return random() % 4 == 0 ? Figure{} : Figure::Measured(OneOf(kNumbers, random));
  };
  const auto known = [&] { return Figure::Measured(OneOf(kNumbers, random)); };
  ClusterProfile cluster;
  const uint64_t n_workers = 1 + random() % 4;
  for (uint64_t w = 1; w <= n_workers; ++w) {
    cluster.workers.push_back({.id = {w},
                               .host = Str("host", w),
                               .memory_bytes = OneOf(kMemories, random),
                               .read_bytes_per_s = figure(),
                               .gather_bytes_per_s = figure(),
                               .op_overhead_s = figure()});
    cluster.workers.back().compute_rates.push_back({.flops_per_s = figure()});
  }
  for (uint64_t from = 1; from <= n_workers; ++from) {
    for (uint64_t to = 1; to <= n_workers; ++to) {
      if (from == to) continue;
      cluster.links.push_back({.from = {from},
                               .to = {to},
                               .latency_s = known(),
                               .bytes_per_s = known(),
                               .message_s = known()});
    }
  }
  return cluster;
}

TEST(HostileNumbers, APlanIsValidOrRefused) {
  const TinyModelParts model = MakeTinyModelParts({.arch = "arcee", .n_layer = 3, .n_ff = 128});
  const std::vector<NeuronHeat> heats(3, NeuronHeat::Uniform(128, 0.1));
  int planned = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const ClusterProfile cluster = HostileCluster(random);
    PlannerOptions options{.latency_weight = OneOf(kLatencies, random)};
    options.request.ffn = model::FfnMode::kExact;
    options.request.n_ctx = 64;
    const auto plan = MakePlan(
        {.config = model.config, .weights = model.weights, .heats = heats, .cluster = cluster},
        options);
    if (!plan.ok()) {
      EXPECT_EQ(plan.status().code(), StatusCode::kResourceExhausted) << plan.status();
      continue;
    }
    ++planned;
    EXPECT_THAT(ValidatePlan(plan->plan, model.config, model.weights, cluster, options.request),
                IsOk());
    EXPECT_LE(plan->speed.lower_bound_s, plan->speed.value_s);
    EXPECT_TRUE(std::isfinite(plan->forecast.step_s));
  }
  EXPECT_GT(planned, 50);
}

}  // namespace
}  // namespace thermocline::placement
