#include "placement/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"
#include "base/units.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 4;
constexpr int kNeurons = 512;
constexpr double kHopS = 1e-3;

class ForecastTest : public ::testing::Test {
 protected:
  ForecastTest() {
    for (const uint64_t id : {1, 2}) {
      cluster_.workers.push_back({.id = {id},
                                  .memory_bytes = kGiB,
                                  .read_bytes_per_s = Figure::Measured(1e7),
                                  .gather_bytes_per_s = Figure::Measured(1e7),
                                  .op_overhead_s = Figure::Measured(0)});
      cluster_.links.push_back({.from = {id},
                                .to = {3 - id},
                                .latency_s = Figure::Measured(kHopS),
                                .bytes_per_s = Figure::Measured(1e15),
                                .message_s = Figure::Measured(0)});
    }
    options_.request.ffn = model::FfnMode::kExact;
    options_.request.n_ctx = 64;
    options_.request.n_parallel = 1;
    options_.request.max_step_tokens = 16;
  }

  PlannerInputs inputs() const {
    return {
        .config = model_.config, .weights = model_.weights, .heats = heats_, .cluster = cluster_};
  }
  Plan Complete(std::vector<StagePlan> stages) const {
    Plan plan;
    plan.n_layer = kLayers;
    plan.stages = std::move(stages);
    plan.stages.front().layers.has_embed = plan.stages.back().layers.has_head = true;
    auto completed =
        CompletePlan(std::move(plan), model_.config, model_.weights, cluster_, options_.request);
    EXPECT_TRUE(completed.ok()) << completed.status();
    return completed.ok() ? *completed : Plan{};
  }
  PlanForecast Forecast(const Plan& plan) const {
    auto forecast = ForecastPlan(plan, inputs(), options_);
    EXPECT_TRUE(forecast.ok()) << forecast.status();
    return forecast.ok() ? *forecast : PlanForecast{};
  }
  PlanSpeed Speed(const Plan& plan) const {
    auto speed = SpeedOf(plan, inputs(), options_);
    EXPECT_TRUE(speed.ok()) << speed.status();
    return speed.ok() ? *speed : PlanSpeed{};
  }

  const TinyModelParts model_ =
      MakeTinyModelParts({.arch = "arcee", .n_layer = kLayers, .n_ff = kNeurons});
  const std::vector<NeuronHeat> heats_{kLayers, NeuronHeat::Uniform(kNeurons, 0.25)};
  ClusterProfile cluster_;
  PlannerOptions options_;
};

TEST_F(ForecastTest, OfAPlannedPlanIsThePlannersOwn) {
  for (const SplitPolicy policy : {SplitPolicy::kOptimal, SplitPolicy::kPipelineOnly}) {
    options_.policy = policy;
    options_.latency_weight = 0.5;
    const auto planned = MakePlan(inputs(), options_);
    ASSERT_TRUE(planned.ok()) << planned.status();
    const PlanForecast forecast = Forecast(planned->plan);
    EXPECT_NEAR(forecast.step_s, planned->forecast.step_s, 1e-3 * forecast.step_s);
    EXPECT_NEAR(forecast.bottleneck_s, planned->forecast.bottleneck_s,
                1e-3 * forecast.bottleneck_s);
    ASSERT_EQ(forecast.stages.size(), planned->forecast.stages.size());
    EXPECT_EQ(forecast.stages[0].members[0].memory_bytes,
              planned->forecast.stages[0].members[0].memory_bytes);
  }
}

TEST_F(ForecastTest, APipelineOfTwoTakesAsLongAsOneWorkerAndTheHop) {
  const PlanForecast alone = Forecast(Complete({{.lead = {1}, .layers = {0, kLayers}}}));
  const PlanForecast two =
      Forecast(Complete({{.lead = {1}, .layers = {0, 1}}, {.lead = {2}, .layers = {1, kLayers}}}));
  EXPECT_NEAR(two.step_s, alone.step_s + kHopS, 1e-6);
  EXPECT_LT(two.bottleneck_s, alone.bottleneck_s);
}

TEST_F(ForecastTest, WorkersOfAHostShareItsCores) {
  const Plan pipeline =
      Complete({{.lead = {1}, .layers = {0, 2}}, {.lead = {2}, .layers = {2, kLayers}}});
  const Plan split =
      Complete({{.lead = {1},
                 .layers = {0, kLayers},
                 .helpers = {{.worker = {2}, .neurons = {kLayers, {kNeurons / 2, kNeurons}}}}}});
  const auto on_cores = [&](const Plan& plan, int n_cores) {
    for (WorkerProfile& worker : cluster_.workers) {
      worker.host = "box";
      worker.n_threads = 1;
      worker.n_cores = n_cores;
    }
    return Forecast(plan);
  };
  const auto work_s = [](const PlanForecast& forecast) {
    double seconds = 0;
    for (const PlanForecast::Stage& stage : forecast.stages) {
      for (const PlanForecast::Member& member : stage.members) seconds += member.busy_s;
    }
    return seconds;
  };
  // Stages of one stream take turns, of several they do not; members of a stage never do.
  const PlanForecast enough = on_cores(pipeline, 2), one = on_cores(pipeline, 1);
  EXPECT_DOUBLE_EQ(one.step_s, enough.step_s);
  EXPECT_DOUBLE_EQ(one.bottleneck_s, work_s(enough));
  EXPECT_LT(enough.bottleneck_s, one.bottleneck_s);
  for (LinkProfile& link : cluster_.links) link.latency_s = Figure::Measured(1e-9);
  EXPECT_LT(on_cores(split, 2).step_s, work_s(on_cores(split, 2)));
  EXPECT_DOUBLE_EQ(on_cores(split, 1).step_s, work_s(on_cores(split, 2)));
  cluster_.workers.back().host = "another";
  EXPECT_DOUBLE_EQ(Forecast(split).step_s, on_cores(split, 2).step_s);
}

TEST_F(ForecastTest, TheWireTypeOfEachLinkIsThePlans) {
  for (LinkProfile& link : cluster_.links) link.bytes_per_s = Figure::Measured(1e6);
  Plan plan = Complete({{.lead = {1}, .layers = {0, 1}}, {.lead = {2}, .layers = {1, kLayers}}});
  const double wide_s = Forecast(plan).step_s;
  const double saved_s = 2.0 * model_.config.n_embd / 1e6;
  plan.stages[0].to_next.wire = DType::kF16;
  EXPECT_NEAR(Forecast(plan).step_s, wide_s - saved_s, 1e-9);
  plan.stages[0].to_next = {};
  plan.wire = DType::kBF16;
  EXPECT_NEAR(Forecast(plan).step_s, wide_s - saved_s, 1e-9);
}

// The plan need not be cut where the solver's blocks are.
TEST_F(ForecastTest, AHelpersNeuronsTakeTheLeadNoTime) {
  const auto with_helper = [&](NeuronRange helped) {
    return Forecast(Complete({{.lead = {1},
                               .layers = {0, kLayers},
                               .helpers = {{.worker = {2}, .neurons = {kLayers, helped}}}}}));
  };
  const PlanForecast few = with_helper({kNeurons - 7, kNeurons});
  const PlanForecast half = with_helper({kNeurons / 2, kNeurons});
  EXPECT_LT(half.stages[0].members[0].busy_s, few.stages[0].members[0].busy_s);
  EXPECT_LT(half.step_s, few.step_s);
  for (const PlanForecast& forecast : {few, half}) {
    double seconds = forecast.stages[0].embed_s + forecast.stages[0].head_s;
    ASSERT_EQ(forecast.stages[0].layers.size(), static_cast<size_t>(kLayers));
    for (const PlanForecast::Layer& layer : forecast.stages[0].layers) {
      seconds += layer.before_ffn_s + layer.ffn_s;
      EXPECT_NEAR(layer.links_s, 2 * kHopS, 1e-6);
      EXPECT_GT(layer.bytes[0], layer.bytes[1]);
    }
    EXPECT_NEAR(seconds, forecast.step_s, 1e-9);
  }
  EXPECT_EQ(few.stages[0].layers[0].wait_s, 0);  // the lead's own neurons hide the links
  EXPECT_NEAR(few.stages[0].members[1].busy_s * (kNeurons / 2 / 7.0),
              half.stages[0].members[1].busy_s, 0.05 * half.stages[0].members[1].busy_s);
}

// Four streams: one batch of the lead at a time, and each waits for its helper in every layer.
TEST_F(ForecastTest, StreamsWaitForLinksUnlessOtherBatchesAreUnderWay) {
  for (LinkProfile& link : cluster_.links) link.latency_s = Figure::Measured(1);
  options_.n_streams = 4;
  Plan plan =
      Complete({{.lead = {1},
                 .layers = {0, kLayers},
                 .helpers = {{.worker = {2}, .neurons = {kLayers, {kNeurons / 2, kNeurons}}}}}});
  PlanSpeed speed = Speed(plan);
  EXPECT_EQ(speed.n_streams, 4);
  EXPECT_NEAR(speed.one_tokens_per_s, 1.0 / (2 * kLayers), 0.02);
  options_.n_sequences = 4;
  EXPECT_DOUBLE_EQ(speed.all_tokens_per_s, 4 / Forecast(plan).step_s);
  options_.n_sequences = 2;
  plan.micro_batches = 2;
  EXPECT_DOUBLE_EQ(Speed(plan).all_tokens_per_s, 4 / Forecast(plan).step_s);
  EXPECT_DOUBLE_EQ(Speed(plan).one_tokens_per_s, speed.one_tokens_per_s);
}

// No more steps are under way than there are streams to fill them.
TEST_F(ForecastTest, OfAPipelineStreamsKeepAsManyStagesBusyAsTheyAre) {
  const Plan plan =
      Complete({{.lead = {1}, .layers = {0, 2}}, {.lead = {2}, .layers = {2, kLayers}}});
  const PlanForecast one = Forecast(plan);
  EXPECT_DOUBLE_EQ(Speed(plan).all_tokens_per_s, 1 / one.step_s);
  options_.n_streams = 2;
  EXPECT_DOUBLE_EQ(Speed(plan).one_tokens_per_s, 1 / one.step_s);
  EXPECT_DOUBLE_EQ(Speed(plan).all_tokens_per_s, 2 / std::max(one.step_s, 2 * one.bottleneck_s));
  options_.n_streams = 6;
  options_.n_sequences = 3;
  const PlanForecast three = Forecast(plan);
  EXPECT_DOUBLE_EQ(Speed(plan).all_tokens_per_s,
                   6 / std::max(three.step_s, 2 * three.bottleneck_s));
}

TEST_F(ForecastTest, WhatAPlanIsWorthDoesNotDependOnTheStepThatIsTold) {
  const Plan plan =
      Complete({{.lead = {1}, .layers = {0, 2}}, {.lead = {2}, .layers = {2, kLayers}}});
  options_.n_streams = 2;
  options_.latency_weight = 0.5;
  const PlanSpeed speed = Speed(plan);
  options_.n_sequences = 32;
  EXPECT_EQ(Forecast(plan).n_sequences, 32);
  EXPECT_EQ(Speed(plan).n_streams, 2);
  EXPECT_DOUBLE_EQ(Speed(plan).value_s, speed.value_s);
}

// A stream of 63 tokens in the context needs 64 positions, four pages of 16.
TEST_F(ForecastTest, AGivenPlanIsWorthWhatTheStreamsInItsKvGet) {
  Plan plan = Complete({{.lead = {1}, .layers = {0, 2}}, {.lead = {2}, .layers = {2, kLayers}}});
  options_.n_context = 63;
  options_.latency_weight = 0.5;
  for (const auto& [n_pages, n_held] :
       {std::pair{12, 3}, {15, 3}, {16, 4}, {32, 8}, {99, 8}, {4, 1}}) {
    plan.kv.n_pages = n_pages;
    options_.n_streams = 8;
    const auto judged = JudgePlan(plan, inputs(), options_);
    ASSERT_TRUE(judged.ok()) << judged.status();
    EXPECT_EQ(judged->speed.n_streams, n_held) << n_pages;
    EXPECT_EQ(judged->speed.n_streams_asked, 8);
    EXPECT_EQ(HeldText(judged->speed),
              n_held == 8 ? ""
                          : Str("its KV cache holds ", n_held,
                                " of the 8 streams asked for; speeds are of ", n_held));
    options_.n_streams = n_held;
    EXPECT_DOUBLE_EQ(judged->speed.value_s, Speed(plan).value_s) << n_pages;
    EXPECT_DOUBLE_EQ(judged->speed.all_tokens_per_s, Speed(plan).all_tokens_per_s) << n_pages;
    EXPECT_EQ(judged->forecast.n_sequences, Forecast(plan).n_sequences) << n_pages;
  }
}

// As long as no sequence is longer than the plan's n_ctx, whatever the depth that was asked for.
TEST_F(ForecastTest, AStreamNeedsNoMoreThanASequenceMayHave) {
  Plan plan = Complete({{.lead = {1}, .layers = {0, kLayers}}});
  options_.n_streams = 8;
  plan.n_ctx = 16;
  plan.kv.n_pages = 8;
  options_.n_context = 1000;
  EXPECT_EQ(StreamsHeld(plan, options_), 8);
  plan.kv.n_pages = 0;
  EXPECT_EQ(StreamsHeld(plan, options_), 1);
}

TEST_F(ForecastTest, AWorkerThatIsGoneIsNamed) {
  const Plan plan = Complete({{.lead = {2}, .layers = {0, kLayers}}});
  cluster_.workers.pop_back();
  cluster_.links.clear();
  const auto forecast = ForecastPlan(plan, inputs(), options_);
  ASSERT_EQ(forecast.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(forecast.status().message(), HasSubstr("the cluster lacks: worker 2"));
}

TEST_F(ForecastTest, WorkersThatTalkNeedALink) {
  const Plan plan =
      Complete({{.lead = {1}, .layers = {0, 1}}, {.lead = {2}, .layers = {1, kLayers}}});
  cluster_.links.pop_back();
  const auto forecast = ForecastPlan(plan, inputs(), options_);
  ASSERT_EQ(forecast.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(forecast.status().message(), HasSubstr("no link between worker 1 and worker 2"));
}

}  // namespace
}  // namespace thermocline::placement
