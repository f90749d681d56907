#include "coordinator/plan_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/str.h"
#include "base/units.h"
#include "coordinator/plan_text.h"
#include "placement/link_preset.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::coordinator {
namespace {

using placement::Figure;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const testing::TinyModelParts& FourLayers() {
  static const testing::TinyModelParts parts = testing::MakeTinyModelParts({.n_layer = 4});
  return parts;
}

class PlanTaskTest : public ::testing::Test {
 protected:
  // Workers that all differ, so that the search has much to try.
  PlanJob JobFor(int n_workers, std::string_view link = placement::kDefaultLinkPreset) const {
    PlanJob job;
    for (int i = 1; i <= n_workers; ++i) {
      job.cluster.workers.push_back({.id = {static_cast<uint64_t>(i)},
                                     .host = Str("node", i),
                                     .memory_bytes = kGiB,
                                     .read_bytes_per_s = Figure::Measured(1e9 / i)});
    }
    const Status filled = placement::FillLinks(*placement::FindLinkPreset(link),
                                               placement::LinkKind::kZmq, &job.cluster);
    EXPECT_TRUE(filled.ok()) << filled;
    job.options.request.n_ctx = 64;
    return job;
  }
  // Of a task of its own.
  Result<PlanOutcome> Outcome(PlanJob job) const {
    std::promise<void> done;
    PlanTask task(sources_, std::move(job), [&] { done.set_value(); });
    done.get_future().wait();
    auto outcome = task.Take();
    EXPECT_TRUE(outcome.has_value());
    EXPECT_FALSE(task.Take().has_value()) << "an outcome is taken once";
    return outcome ? *std::move(outcome) : Internal("no outcome");
  }

  const testing::TinyModelParts& model_ = FourLayers();
  const std::vector<placement::NeuronHeat> heats_ = placement::UniformHeats(model_.config, 1);
  const PlanSources sources_{model_.config, model_.weights, nullptr, heats_};
};

TEST_F(PlanTaskTest, TellsThePlanAndWhatIsExpectedOfIt) {
  const auto outcome = Outcome(JobFor(2));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->by_hand);
  EXPECT_GT(outcome->forecast.step_s, 0);
  EXPECT_EQ(outcome->speed.n_streams, 1);
  EXPECT_DOUBLE_EQ(outcome->speed.one_tokens_per_s, 1 / outcome->forecast.step_s);
  EXPECT_DOUBLE_EQ(outcome->speed.all_tokens_per_s, outcome->speed.one_tokens_per_s);
  EXPECT_EQ(outcome->cluster.workers.size(), 2u);
}

TEST_F(PlanTaskTest, WhatStreamsGetTogetherNamesTheirNumber) {
  PlanJob job = JobFor(2);
  job.options.n_sequences = 3;  // of the step that is told
  job.options.n_streams = 5;
  job.rival = Outcome(job)->plan;
  job.rival_heats = heats_;
  const auto outcome = Outcome(job);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(PlanText(*outcome), HasSubstr(" for 5 streams together; a step of 3 sequences "));
  ASSERT_TRUE(outcome->rival.has_value());
  EXPECT_DOUBLE_EQ(outcome->rival->all_tokens_per_s, outcome->speed.all_tokens_per_s);
}

TEST_F(PlanTaskTest, EqualJobsGiveEqualPlans) {
  PlanJob job = JobFor(3);
  job.options.latency_weight = 0.5;
  const auto once = Outcome(job), again = Outcome(job);
  ASSERT_TRUE(once.ok() && again.ok());
  EXPECT_EQ(once->plan, again->plan);
}

TEST_F(PlanTaskTest, AHandWrittenPlanTakesTheTransportOfTheService) {
  PlanJob job = JobFor(2);
  job.plan_json = R"({"stages":[{"lead":1,"layers":[0,2]},{"lead":2,"layers":[2,4]}]})";
  job.options.request.link = placement::LinkKind::kMpi;
  const auto outcome = Outcome(job);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->by_hand);
  EXPECT_GT(outcome->forecast.step_s, 0);
  EXPECT_EQ(outcome->plan.link, placement::LinkKind::kMpi);
  job.plan_json.insert(1, R"("link":"zmq",)");
  EXPECT_EQ(Outcome(job)->plan.link, placement::LinkKind::kZmq);
}

TEST_F(PlanTaskTest, OfAHandWrittenPlanTheStreamsThatItsKvHoldsAreExpected) {
  PlanJob job = JobFor(1);
  job.plan_json = R"({"kv":{"n_pages":8},"stages":[{"lead":1,"layers":[0,4]}]})";
  job.options.n_streams = 5;
  job.options.n_context = 32;  // and the next one: three pages of 16
  const auto outcome = Outcome(job);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->speed.n_streams, 2);
  EXPECT_THAT(PlanText(*outcome),
              HasSubstr("\nits KV cache holds 2 of the 5 streams asked for; speeds are of 2\n"));
  EXPECT_THAT(PlanText(*outcome), HasSubstr(" for 2 streams together"));
}

TEST_F(PlanTaskTest, NoPlanIsAnOutcomeToo) {
  PlanJob job = JobFor(2);
  for (auto& worker : job.cluster.workers) worker.memory_bytes = kMiB;
  EXPECT_EQ(Outcome(job).status().code(), StatusCode::kResourceExhausted);
}

TEST_F(PlanTaskTest, ASearchEndsWithItsTask) {
  bool told = false;
  PlanJob job = JobFor(20);
  job.options.latency_weight = 0.5;
  {
    const PlanTask task(sources_, std::move(job), [&] { told = true; });
  }
  EXPECT_TRUE(told);
}

TEST_F(PlanTaskTest, WhoHasNoWorkIsToldWhy) {
  const auto outcome = Outcome(JobFor(3, "wan"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(PlanText(*outcome), StartsWith("plan: 1 stage, context 64, kv cache for 256 tokens"));
  EXPECT_THAT(PlanText(*outcome), HasSubstr("\n  stage 0 on worker 1: 4 of 4 layers in "));
  EXPECT_THAT(PlanText(*outcome),
              HasSubstr(" tokens/s for one stream; a step of 1 sequence takes "));
  EXPECT_THAT(SparesText(*outcome),
              HasSubstr("spare: worker 2 on node2: no plan with it was found to be better; a "
                        "message to it takes 25 ms, a step without it "));
  EXPECT_THAT(SparesText(*outcome), HasSubstr("spare: worker 3 on node3: "));
}

TEST_F(PlanTaskTest, WhomAPlanByHandLeavesOutIsToldSo) {
  PlanJob job = JobFor(2);
  job.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  EXPECT_EQ(PlanningText(job), "checking the plan against 2 workers");
  const auto outcome = Outcome(job);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(SparesText(*outcome), "spare: worker 1 on node1: the plan names it nowhere\n");
}

TEST_F(PlanTaskTest, WhatIsPlannedForIsOneLine) {
  PlanJob job = JobFor(3);
  EXPECT_EQ(PlanningText(job),
            "planning for 3 workers: policy optimal, objective latency, 1 stream with 0 "
            "tokens in the context");
  job.options.latency_weight = 0.5;
  job.options.n_streams = 2;
  job.options.n_context = 7;
  job.options.policy = placement::SplitPolicy::kPowerInfer;
  EXPECT_EQ(PlanningText(job),
            "planning for 3 workers: policy powerinfer, objective 50 % latency, the rest "
            "throughput, 2 streams with 7 tokens in the context");
}

}  // namespace
}  // namespace thermocline::coordinator
