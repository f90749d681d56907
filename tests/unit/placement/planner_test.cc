#include "placement/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "base/mutex.h"
#include "base/str.h"
#include "base/units.h"
#include "placement/overhead.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 4;
constexpr int kNeurons = 512;

const TinyModelParts& Arcee() {
  static const TinyModelParts parts =
      MakeTinyModelParts({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons});
  return parts;
}

NeuronHeat Skewed() {
  model::LayerActivity activity;
  for (int i = 0; i < kNeurons; ++i) {
    activity.fired.push_back(static_cast<uint64_t>(1000 * std::exp(-i / 80.0)));
  }
  return NeuronHeat::Of(activity, 1000);
}

// Slow enough that a layer of the tiny model takes milliseconds.
constexpr double kReadBytesPerS = 1e7;

class PlannerTest : public ::testing::Test {
 protected:
  // Workers of the given speeds, in shares of kReadBytesPerS.
  void Cluster(const std::vector<double>& speeds, double latency_s, uint64_t memory = kGiB) {
    cluster_ = {};
    for (size_t i = 0; i < speeds.size(); ++i) {
      cluster_.workers.push_back(
          {.id = {i + 1},
           .host = Str("host", i + 1),
           .memory_bytes = memory,
           .read_bytes_per_s = Figure::Measured(kReadBytesPerS * speeds[i]),
           .gather_bytes_per_s = Figure::Measured(kReadBytesPerS * speeds[i]),
           .op_overhead_s = Figure::Measured(0)});
    }
    for (const WorkerProfile& from : cluster_.workers) {
      for (const WorkerProfile& to : cluster_.workers) {
        if (from.id == to.id) continue;
        cluster_.links.push_back({.from = from.id,
                                  .to = to.id,
                                  .latency_s = Figure::Measured(latency_s),
                                  .bytes_per_s = Figure::Measured(1e9),
                                  .message_s = Figure::Measured(0)});
      }
    }
  }
  Result<PlannedModel> Make(PlannerOptions options = {}) const {
    options.request.ffn = model::FfnMode::kExact;
    options.request.n_ctx = 64;
    options.request.n_parallel = 1;
    options.request.max_step_tokens = 16;
    return MakePlan(
        {.config = model_.config, .weights = model_.weights, .heats = heats_, .cluster = cluster_},
        options);
  }
  PlannedModel MustMake(const PlannerOptions& options = {}) const {
    auto planned = Make(options);
    EXPECT_TRUE(planned.ok()) << planned.status();
    return planned.ok() ? *planned : PlannedModel{};
  }

  // What one worker of the model takes of memory, and of it what it takes for itself.
  uint64_t AloneBytes() {
    Cluster({1}, 0);
    return MustMake().forecast.stages[0].members[0].memory_bytes;
  }
  uint64_t OwnBytes() const {
    return OverheadModel(model_.config, model_.weights, model::FfnMode::kExact, 16, 0)
        .MostOfHelper(kLayers, Holder::kProcess);
  }

  const TinyModelParts& model_ = Arcee();
  const std::vector<NeuronHeat> heats_{kLayers, Skewed()};
  ClusterProfile cluster_;
};

TEST_F(PlannerTest, OneWorkerGetsEverything) {
  Cluster({1}, 0);
  const PlannedModel planned = MustMake();
  ASSERT_EQ(planned.plan.stages.size(), 1u);
  EXPECT_FALSE(planned.plan.stages[0].is_split());
  EXPECT_NEAR(planned.forecast.step_s, planned.speed.lower_bound_s, 1e-6 * planned.forecast.step_s);
}

TEST_F(PlannerTest, TellsWhatItFindsAndTheBestIsWhatItGives) {
  Cluster({1, 0.5, 0.25}, 1e-4);
  Mutex mutex;
  int n_found = 0;
  double best_s = std::numeric_limits<double>::infinity();
  const auto on_found = [&](const PlanSpeed& speed) {
    const MutexLock lock(mutex);
    ++n_found;
    best_s = std::min(best_s, speed.value_s);
  };
  const PlannedModel planned = MustMake({.n_streams = 2, .on_found = on_found});
  EXPECT_GT(n_found, 1);
  EXPECT_GE(planned.speed.value_s, best_s);
  // Parts that do not pay for their messages must be better by a hundredth.
  EXPECT_LE(planned.speed.value_s, 1.01 * best_s);
}

TEST_F(PlannerTest, OverALongWireNothingIsShared) {
  Cluster({1, 1, 1}, 0.1);
  const PlannedModel planned = MustMake();
  ASSERT_EQ(planned.plan.stages.size(), 1u);
  EXPECT_FALSE(planned.plan.stages[0].is_split());
}

TEST_F(PlannerTest, LinksSayWhereTheyAreUnlikeWhatIsAskedForAll) {
  Cluster({1, 1}, 1e-6);
  for (LinkProfile& link : cluster_.links) link.transport = LinkKind::kZmq;
  PlannerOptions options;
  options.request.link = LinkKind::kMpi;
  const Plan alike = MustMake(options).plan;
  ASSERT_EQ(alike.stages[0].helpers.size(), 1u);
  EXPECT_EQ(alike.stages[0].helpers[0].to_lead, LinkChoice{});
  options.request.link_by_pair = true;
  options.request.wire_between_hosts = DType::kF16;
  const PlannedModel mixed = MustMake(options);
  ASSERT_EQ(mixed.plan.stages[0].helpers.size(), 1u);
  EXPECT_EQ(mixed.plan.stages[0].helpers[0].to_lead, (LinkChoice{LinkKind::kZmq, DType::kF16}));
  EXPECT_EQ(mixed.plan.link, LinkKind::kMpi);
}

TEST_F(PlannerTest, HelpersOfTheSameHostAreSentTheWiderType) {
  Cluster({1, 1, 1}, 1e-6);
  for (LinkProfile& link : cluster_.links) link.bytes_per_s = Figure::Measured(2e6);
  cluster_.workers[2].host = cluster_.workers[0].host;
  const PlannedModel wide = MustMake();
  PlannerOptions options;
  options.request.wire_between_hosts = DType::kF16;
  const PlannedModel mixed = MustMake(options);
  ASSERT_EQ(mixed.plan.stages.size(), 1u);
  const StagePlan& stage = mixed.plan.stages[0];
  ASSERT_EQ(stage.helpers.size(), 2u);
  for (const HelperPlan& helper : stage.helpers) {
    const bool between_hosts = stage.lead == WorkerId{2} || helper.worker == WorkerId{2};
    EXPECT_EQ(helper.to_lead.wire == DType::kF16, between_hosts) << helper.worker;
  }
  EXPECT_LT(mixed.forecast.step_s, wide.forecast.step_s);
  EXPECT_LE(mixed.speed.lower_bound_s, mixed.forecast.step_s);
}

TEST_F(PlannerTest, OverAShortWireHelpersTakeNeuronsAndTheTokenIsFaster) {
  Cluster({1, 1}, 1e-6);
  const PlannedModel shared = MustMake();
  Cluster({1}, 0);
  const PlannedModel alone = MustMake();
  ASSERT_EQ(shared.plan.stages.size(), 1u);
  ASSERT_TRUE(shared.plan.stages[0].is_split());
  EXPECT_LT(shared.forecast.step_s, 0.8 * alone.forecast.step_s);
  EXPECT_GE(shared.forecast.step_s, shared.speed.lower_bound_s);
  EXPECT_LT(shared.speed.gap(), 0.4);  // the bound gives attention away, too
  const std::string& reason = shared.plan.stages[0].helpers[0].reason;
  const size_t saves = reason.find(": saves ");
  ASSERT_NE(saves, std::string::npos) << reason;
  const double saved_s = alone.forecast.step_s - shared.forecast.step_s;
  EXPECT_NEAR(std::stod(reason.substr(saves + 8)), 1e3 * saved_s, 0.02 * 1e3 * saved_s) << reason;
}

TEST_F(PlannerTest, ASlowerHelperGetsAsMuchLessToRead) {
  Cluster({1, 0.5}, 0);
  const PlannedModel planned = MustMake();
  ASSERT_TRUE(planned.plan.stages[0].is_split());
  const StagePlan& stage = planned.plan.stages[0];
  double lead = 0, helper = 0;
  const std::vector<double>& fires = heats_[0].fires();
  const auto read = [&](const NeuronRange& range) {
    double bytes = 0;  // in rows: up for every neuron, down for those that fire
    for (int64_t i = range.begin; i < range.end; ++i) bytes += 1 + fires[static_cast<size_t>(i)];
    return bytes;
  };
  for (int l = 0; l < kLayers; ++l) {
    lead += read(stage.neurons[static_cast<size_t>(l)]);
    helper += read(stage.helpers[0].neurons[static_cast<size_t>(l)]);
  }
  const bool first_leads = stage.lead == WorkerId{1};
  EXPECT_NEAR(first_leads ? lead / helper : helper / lead, 2, 0.25);
}

TEST_F(PlannerTest, WhatOneWorkerCannotHoldIsSpread) {
  PlannerOptions options;
  const uint64_t needed = AloneBytes();
  const uint64_t own = OwnBytes();
  Cluster({1, 1}, 50e-6, own + (needed - own) * 2 / 3);
  const PlannedModel planned = MustMake(options);
  int n_members = 0;
  for (const auto& stage : planned.forecast.stages) {
    for (const auto& member : stage.members) {
      EXPECT_LE(member.memory_bytes, cluster_.workers[0].memory_bytes);
      ++n_members;
    }
  }
  EXPECT_EQ(n_members, 2);
  const Plan greedy = MustMake({.policy = SplitPolicy::kFrequencyGreedy}).plan;
  ASSERT_TRUE(greedy.stages[0].is_split());
  EXPECT_THAT(greedy.stages[0].helpers[0].reason, HasSubstr(": the lead alone lacks "));
  Cluster({1, 1}, 50e-6, own + (needed - own) / 3);
  EXPECT_EQ(Make().status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(Make().status().message(), HasSubstr("M of each of 2 workers is enough"));
}

// Fifty times as fast, with room for two thirds of the model; an op costs it a launch, and every
// way to it and back the bus.
class GpuPlannerTest : public PlannerTest {
 protected:
  static constexpr double kSpeed = 50;

  void CpuAndGpu(double hop_s) {
    Cluster({1}, 0);
    const uint64_t needed = MustMake().forecast.stages[0].members[0].memory_bytes;
    const uint64_t own = OverheadModel(model_.config, model_.weights, model::FfnMode::kExact, 16, 0)
                             .MostOfHelper(kLayers, Holder::kProcess);
    Cluster({1, kSpeed}, hop_s);
    WorkerProfile& gpu = cluster_.workers[1];
    gpu.memory_bytes = own + (needed - own) * 2 / 3;
    gpu.op_overhead_s = Figure::Measured(1e-6);
  }
  static constexpr WorkerId kCpu{1}, kGpu{2};
};

// Whoever leads: attention is a small part of this model.
TEST_F(GpuPlannerTest, HotNeuronsGoToTheGpuAndColdOnesToTheCpu) {
  CpuAndGpu(1e-6);
  const PlannedModel planned = MustMake();
  ASSERT_EQ(planned.plan.stages.size(), 1u);
  const StagePlan& stage = planned.plan.stages[0];
  ASSERT_EQ(stage.helpers.size(), 1u);
  const bool gpu_leads = stage.lead == kGpu;
  const auto& hot = gpu_leads ? stage.neurons : stage.helpers[0].neurons;
  const auto& cold = gpu_leads ? stage.helpers[0].neurons : stage.neurons;
  int64_t n_cold = 0;
  for (size_t layer = 0; layer < kLayers; ++layer) {
    EXPECT_EQ(hot[layer].begin, 0) << layer;
    EXPECT_EQ(hot[layer].size() + cold[layer].size(), kNeurons) << layer;
    EXPECT_TRUE(cold[layer].empty() || cold[layer].begin == hot[layer].end) << layer;
    n_cold += cold[layer].size();
  }
  EXPECT_GT(n_cold, 0);
  const auto& members = planned.forecast.stages[0].members;
  EXPECT_LE(members[gpu_leads ? 0 : 1].memory_bytes, cluster_.workers[1].memory_bytes);
  const double together_s = planned.forecast.step_s;
  Cluster({1}, 0);
  EXPECT_LT(together_s, 0.5 * MustMake().forecast.step_s);
}

// In as much memory, and in less time.
TEST_F(GpuPlannerTest, RowsIn8BitsLetTheGpuHoldMoreNeurons) {
  CpuAndGpu(1e-6);
  WorkerProfile& gpu = cluster_.workers[1];
  const ModelBytes bytes = ModelBytes::Of(model_.config, model_.weights, model::FfnMode::kExact);
  // A fifth of the neurons as they are, beside what else it would hold as a helper.
  const uint64_t neurons = kLayers * bytes.Neurons(0, {0, kNeurons}).sum();
  gpu.memory_bytes = OwnBytes() + kLayers * kMiB / 64 + neurons / 5;
  const auto part = [&](const PlannedModel& planned) {
    const StagePlan& stage = planned.plan.stages.front();
    EXPECT_EQ(planned.plan.stages.size(), 1u);
    EXPECT_EQ(stage.lead, kCpu);
    EXPECT_EQ(stage.helpers.size(), 1u);
    EXPECT_EQ(stage.saved_bytes, 0u);
    return stage.helpers.empty() ? HelperPlan{} : stage.helpers.front();
  };
  const auto count = [](const HelperPlan& helper) {
    int64_t n = 0;
    for (const NeuronRange& range : helper.neurons) n += range.size();
    return n;
  };
  const PlannedModel as_is = MustMake();
  EXPECT_EQ(part(as_is).bytes.saved, 0u);
  for (const NeuronRows rows : {NeuronRows::kFp8E4M3, NeuronRows::kFp8E5M2}) {
    gpu.neuron_rows = rows;
    const PlannedModel narrow = MustMake();
    const HelperPlan helper = part(narrow);
    // F32 rows take 27 % of their bytes, and the plan cuts by blocks of 64 neurons.
    EXPECT_GT(count(helper), 3 * count(part(as_is)));
    EXPECT_GT(helper.bytes.saved, 2 * helper.bytes.sum());
    EXPECT_LT(narrow.forecast.step_s, as_is.forecast.step_s);
    EXPECT_LE(narrow.speed.lower_bound_s, narrow.speed.value_s);
    const uint64_t taken = narrow.forecast.stages[0].members[1].memory_bytes;
    EXPECT_LE(taken, gpu.memory_bytes);
    // What is there for neurons is made use of, but for a block in each layer.
    EXPECT_GE(helper.bytes.sum() + kLayers * bytes.Neurons(0, {0, 64}, rows).sum(), neurons / 5);
  }
}

TEST_F(GpuPlannerTest, AGpuThatDoesNotPayForItsHopsGetsNothing) {
  CpuAndGpu(1);
  const PlannedModel planned = MustMake();
  ASSERT_EQ(planned.plan.stages.size(), 1u);
  EXPECT_EQ(planned.plan.stages[0].lead, kCpu);
  EXPECT_FALSE(planned.plan.stages[0].is_split());
}

TEST_F(PlannerTest, AHelpersPartOfALayerIsNoneOrNearlyAlwaysPaysForItsMessages) {
  int n_parts = 0;
  int n_exceptions = 0;  // plans with a smaller part, as that was better all the same
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> draw(0.2, 1);
    Cluster({1, draw(random), draw(random)}, 20e-6 * draw(random));
    for (LinkProfile& link : cluster_.links) {
      link.message_s = Figure::Measured(1e-4 * std::pow(10, 2 * draw(random)));
    }
    PlannerOptions options{.latency_weight = seed % 3 == 2 ? 0.0 : 1.0, .max_group = 3};
    const PlannedModel planned = MustMake(options);
    bool is_exception = false;
    for (const PlanForecast::Stage& stage : planned.forecast.stages) {
      for (const PlanForecast::Layer& layer : stage.layers) {
        for (size_t m = 1; m < layer.active.size(); ++m) {
          EXPECT_GT(layer.least_active[m], 0) << "seed " << seed;
          if (layer.active[m] == 0) continue;
          ++n_parts;
          is_exception |= layer.active[m] < layer.least_active[m] * (1 - 1e-6);
        }
      }
    }
    n_exceptions += is_exception;
  }
  EXPECT_GT(n_parts, 20);
  EXPECT_LE(n_exceptions, 10);
}

// Memory from barely enough to plenty: where it is tight a part that does not pay for its messages
// can be the best there is.
TEST_F(PlannerTest, NoBaselineIsBetter) {
  const uint64_t needed = AloneBytes();
  const uint64_t own = OwnBytes();
  int n_compared = 0;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> draw(0.2, 1);
    Cluster({1, draw(random), draw(random)}, 1e-6 * std::pow(10, 3 * draw(random)),
            own + (needed - own) * (3 + seed % 4) / 5);
    for (LinkProfile& link : cluster_.links) link.message_s = Figure::Measured(1e-4 * draw(random));
    for (const double latency : {1.0, 0.0, 0.5}) {
      PlannerOptions options{.n_streams = 3, .latency_weight = latency, .with_bound = false};
      const auto ours = Make(options);
      for (const SplitPolicy policy : {SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional,
                                       SplitPolicy::kPipelineOnly, SplitPolicy::kPowerInfer}) {
        options.policy = policy;
        const auto planned = Make(options);
        if (!planned.ok()) continue;
        ++n_compared;
        ASSERT_TRUE(ours.ok()) << ours.status() << " seed " << seed << " policy " << int(policy);
        EXPECT_GE(planned->speed.value_s, ours->speed.value_s)
            << "seed " << seed << " latency " << latency << " policy " << int(policy);
      }
    }
  }
  EXPECT_GT(n_compared, 20);
}

TEST_F(PlannerTest, NoWorkerAloneIsBetter) {
  for (uint64_t seed = 0; seed < 6; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<double> speeds;
    for (int w = 0; w < 3; ++w) speeds.push_back(0.2 + static_cast<double>(random() % 20) / 10);
    const double latency_s = 1e-6 * static_cast<double>(1 << random() % 14);
    for (const double weight : {1.0, 0.5, 0.0}) {
      Cluster(speeds, latency_s);
      const double ours = MustMake({.n_streams = 4, .latency_weight = weight}).speed.value_s;
      for (const double speed : speeds) {
        Cluster({speed}, 0);
        EXPECT_LE(ours,
                  MustMake({.n_streams = 4, .latency_weight = weight}).speed.value_s * (1 + 1e-9))
            << "seed " << seed << " weight " << weight;
      }
    }
  }
}

TEST_F(PlannerTest, ForThroughputStagesWorkAtTheSameTime) {
  Cluster({1, 1}, 200e-6);
  const PlannedModel latency = MustMake({.n_streams = 2});
  const PlannedModel throughput = MustMake({.n_streams = 2, .latency_weight = 0});
  // Attention is the lead's alone, so with one stage a worker idles.
  EXPECT_GT(throughput.speed.all_tokens_per_s, 1.3 * latency.speed.one_tokens_per_s);
}

TEST_F(PlannerTest, EqualInputsGiveEqualPlans) {
  Cluster({1, 0.7, 0.4}, 20e-6);
  EXPECT_EQ(MustMake().plan, MustMake().plan);
  const PlannerOptions options{.n_streams = 6, .latency_weight = 0.5};  // searched by two threads
  EXPECT_EQ(MustMake(options).plan, MustMake(options).plan);
}

TEST_F(PlannerTest, ImpossibleWishesAreNamed) {
  Cluster({1, 1}, 0);
  EXPECT_THAT(Make({.latency_weight = 2}).status().message(), HasSubstr("not within 0..1: 2"));
  cluster_.links.pop_back();
  EXPECT_THAT(Make().status().message(), HasSubstr("no link from worker 2 to worker 1"));
  cluster_ = {};
  EXPECT_THAT(Make().status().message(), HasSubstr("no workers"));
}

}  // namespace
}  // namespace thermocline::placement
