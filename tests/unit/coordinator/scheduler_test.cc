#include "coordinator/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/coordinator/scheduler_fixture.h"

namespace thermocline::coordinator {
namespace {

using ::testing::HasSubstr;

TEST(Scheduler, GeneratesUntilMaxTokens) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(5, 7)).ok());
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(Request(5, 7), 50, 7));
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kLength);
  EXPECT_EQ(cluster.scheduler_.counts().prompt_tokens, 5u);
  EXPECT_EQ(cluster.scheduler_.counts().generated_tokens, 7u);
  ExpectClean(cluster);
}

TEST(Scheduler, EndIdEndsWithStopAndIsNotDelivered) {
  const std::vector<int32_t> expected = Cluster::Expected(Request(5, 20), 50, 20);
  GenerationRequest request = Request(5, 20);
  request.end_ids = {expected[3]};
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, request).ok());
  cluster.RunToEnd();
  const auto first = std::find(expected.begin(), expected.end(), expected[3]);
  EXPECT_EQ(cluster.seen_[1].tokens, std::vector<int32_t>(expected.begin(), first));
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kStop);
  ExpectClean(cluster);
}

TEST(Scheduler, UnlimitedRequestEndsWhenTheContextIsFull) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(60, -1)).ok());
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens.size(), 4u);
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kLength);
  ExpectClean(cluster);
}

TEST(Scheduler, StartCarriesWhatTheSamplerNeeds) {
  Cluster cluster(SmallOptions());
  GenerationRequest request = Request(3, 4);
  request.min_tokens = 2;
  request.end_ids = {9};
  request.sampling.seed = 77;
  ASSERT_TRUE(cluster.Submit(1, request).ok());
  const proto::StepEntry& entry = cluster.steps_.at(0).entries.at(0);
  ASSERT_TRUE(entry.start.has_value());
  EXPECT_EQ(entry.start->n_prompt, 3);
  EXPECT_EQ(entry.start->min_tokens, 2);
  EXPECT_EQ(entry.start->end_ids, std::vector<int32_t>{9});
  EXPECT_EQ(entry.start->params.seed, 77u);
  EXPECT_TRUE(entry.sample);
}

TEST(Scheduler, LongPromptOnOneStageIsPrefilledInLargeSteps) {
  SchedulerOptions options = SmallOptions();
  options.n_batches = 1;
  options.max_in_flight = 1;
  Cluster cluster(options);
  ASSERT_TRUE(cluster.Submit(1, Request(60, 1)).ok());
  ASSERT_EQ(cluster.steps_.size(), 1u);
  EXPECT_EQ(cluster.steps_[0].n_tokens(), 32);
  EXPECT_FALSE(cluster.steps_[0].entries[0].sample);
  cluster.Answer();
  ASSERT_EQ(cluster.steps_.size(), 1u);
  EXPECT_EQ(cluster.steps_[0].n_tokens(), 28);
  EXPECT_TRUE(cluster.steps_[0].entries[0].sample);
  EXPECT_FALSE(cluster.steps_[0].entries[0].start.has_value());
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, ChunksOfOnePromptFillThePipeline) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(20, 3)).ok());
  ASSERT_EQ(cluster.steps_.size(), 3u);
  EXPECT_EQ(cluster.steps_[0].n_tokens(), 8);
  EXPECT_TRUE(cluster.steps_[0].entries[0].start.has_value());
  EXPECT_EQ(cluster.steps_[1].entries[0].first_position, 8);
  EXPECT_FALSE(cluster.steps_[1].entries[0].sample);
  EXPECT_FALSE(cluster.steps_[1].entries[0].start.has_value());
  EXPECT_EQ(cluster.steps_[2].n_tokens(), 4);
  EXPECT_TRUE(cluster.steps_[2].entries[0].sample);
  cluster.Answer();
  cluster.Answer();
  EXPECT_EQ(cluster.steps_.size(), 1u);  // the first token is awaited
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(Request(20, 3), 50, 3));
  EXPECT_EQ(cluster.scheduler_.counts().prompt_tokens, 20u);
  ExpectClean(cluster);
}

TEST(Scheduler, CancelWithChunksUnderWayIgnoresTheirAnswers) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(40, 3)).ok());
  ASSERT_EQ(cluster.steps_.size(), 3u);
  cluster.Cancel(1);
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kCancelled);
  EXPECT_TRUE(cluster.seen_[1].tokens.empty());
  ExpectClean(cluster);
}

TEST(Scheduler, SequenceThatGivesWayWithChunksUnderWayStartsAgain) {
  SchedulerOptions options = SmallOptions();
  options.n_pages = 16;
  Cluster cluster(options);
  ASSERT_TRUE(cluster.Submit(1, Request(26, 38)).ok());
  for (int i = 0; i < 4; ++i) cluster.Answer();  // decodes now
  GenerationRequest request = Request(30, 2);
  request.sampling.n_prompt_logprobs = 0;
  ASSERT_TRUE(cluster.Submit(2, request).ok());
  // Answers to the chunks come late; the older sequence's pages run out meanwhile.
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(Request(26, 38), 50, 38));
  EXPECT_EQ(cluster.seen_[2].tokens, Cluster::Expected(request, 50, 2));
  EXPECT_EQ(cluster.seen_[2].scored.size(), 29u);
  ExpectClean(cluster);
}

TEST(Scheduler, PrefillsAreShortWhileOthersDecode) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(2, 40)).ok());
  cluster.Answer();
  ASSERT_TRUE(cluster.Submit(2, Request(60, 1)).ok());
  for (int i = 0; i < 4; ++i) {
    for (const proto::StepBatch& step : cluster.steps_) EXPECT_LE(step.n_tokens(), 9);
    cluster.Answer();
  }
  EXPECT_GT(cluster.seen_[1].tokens.size(), 2u);
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, DecodesAreSplitSoThatEveryStageHasAStep) {
  Cluster cluster(SmallOptions());
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(cluster.Submit(id, Request(2, 30)).ok());
  for (int i = 0; i < 12; ++i) cluster.Answer();
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(cluster.steps_.size(), 2u);
    EXPECT_EQ(cluster.steps_[0].entries.size(), 2u);
    EXPECT_EQ(cluster.steps_[1].entries.size(), 2u);
    cluster.Answer();
  }
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, OneStageDecodesAllInOneStep) {
  SchedulerOptions options = SmallOptions();
  options.n_batches = 1;
  options.max_in_flight = 2;
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(cluster.Submit(id, Request(2, 30)).ok());
  for (int i = 0; i < 6; ++i) cluster.Answer();
  ASSERT_EQ(cluster.steps_.size(), 1u);
  EXPECT_EQ(cluster.steps_[0].entries.size(), 4u);
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, ManyDecodesFillOneStepMoreThanThereAreStages) {
  SchedulerOptions options = SmallOptions();
  options.n_batches = 1;
  options.max_in_flight = 2;
  options.n_pages = 256;
  options.max_waiting = 16;
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 16; ++id) ASSERT_TRUE(cluster.Submit(id, Request(2, 30)).ok());
  for (int i = 0; i < 12; ++i) cluster.Answer();
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(cluster.steps_.size(), 2u);  // one runs while the other's result is on its way
    EXPECT_EQ(cluster.steps_[0].entries.size(), 8u);
    EXPECT_EQ(cluster.steps_[1].entries.size(), 8u);
    cluster.Answer();
  }
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, PromptScoresOfChunksAreDeliveredOnceBeforeTheFirstToken) {
  Cluster cluster(SmallOptions());
  GenerationRequest request = Request(60, 2);
  request.sampling.n_prompt_logprobs = 0;
  ASSERT_TRUE(cluster.Submit(1, request).ok());
  cluster.RunToEnd();
  const std::vector<int32_t> scored(request.prompt.begin() + 1, request.prompt.end());
  EXPECT_EQ(cluster.seen_[1].scored, scored);
  EXPECT_EQ(cluster.seen_[1].n_score_events, 1);
  EXPECT_EQ(cluster.seen_[1].tokens.size(), 2u);
  ExpectClean(cluster);
}

TEST(Scheduler, ZeroMaxTokensOnlyScoresThePrompt) {
  Cluster cluster(SmallOptions());
  GenerationRequest request = Request(10, 0);
  request.sampling.n_prompt_logprobs = 3;
  ASSERT_TRUE(cluster.Submit(1, request).ok());
  EXPECT_FALSE(cluster.steps_[0].entries[0].sample);
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].scored.size(), 9u);
  EXPECT_TRUE(cluster.seen_[1].tokens.empty());
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kLength);
  ExpectClean(cluster);
}

TEST(Scheduler, CancelReleasesWithinOneStep) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(2, 40)).ok());
  cluster.Answer();
  cluster.Cancel(1);
  EXPECT_EQ(cluster.seen_[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(cluster.scheduler_.counts().pages_used, 0);
  cluster.Answer();  // the step that was under way
  ASSERT_EQ(cluster.steps_.size(), 1u);
  EXPECT_TRUE(cluster.steps_[0].entries.empty());
  EXPECT_EQ(cluster.steps_[0].released, std::vector<SeqId>{{1}});
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, CancelOfAWaitingOrUnknownSequenceSendsNothing) {
  SchedulerOptions options = SmallOptions();
  options.max_running = 1;
  Cluster cluster(options);
  ASSERT_TRUE(cluster.Submit(1, Request(2, 4)).ok());
  ASSERT_TRUE(cluster.Submit(2, Request(2, 4)).ok());
  const size_t n_steps = cluster.steps_.size();
  cluster.Cancel(2);
  cluster.Cancel(99);
  EXPECT_EQ(cluster.steps_.size(), n_steps);
  EXPECT_EQ(cluster.seen_[2].finish, FinishReason::kCancelled);
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, NewestGivesWayWhenPagesRunOutAndLosesNoToken) {
  SchedulerOptions options = SmallOptions();
  options.n_pages = 16;  // one sequence of n_ctx
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster.Submit(id, Request(8, 50)).ok());
  cluster.RunToEnd();
  EXPECT_GT(cluster.scheduler_.counts().preemptions, 0u);
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(cluster.seen_[id].tokens, Cluster::Expected(Request(8, 50), 50, 50)) << id;
  }
  ExpectClean(cluster);
}

TEST(Scheduler, AnotherPlanComputesWhatRanAgainAndOldestFirst) {
  Cluster cluster(SmallOptions());
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster.Submit(id, Request(10, 20)).ok());
  for (int i = 0; i < 9; ++i) cluster.Answer();
  while (cluster.scheduler_.has_outstanding()) cluster.AnswerWithoutScheduling();
  cluster.steps_.clear();  // bare releases, of which the next stages know nothing
  EXPECT_GT(cluster.scheduler_.n_computed(), 20);
  SchedulerOptions next = SmallOptions();
  next.epoch = {2};
  next.n_batches = 3;
  next.n_pages = 16;
  cluster.pipeline_.StartEpoch(next.epoch);
  cluster.scheduler_.ChangePlan(next);
  EXPECT_EQ(cluster.scheduler_.n_computed(), 0);
  EXPECT_EQ(cluster.scheduler_.counts().n_running, 0);
  cluster.Schedule();
  ASSERT_FALSE(cluster.steps_.empty());
  EXPECT_EQ(cluster.steps_[0].entries[0].seq, SeqId{1});
  EXPECT_EQ(cluster.steps_[0].epoch, Epoch{2});
  EXPECT_TRUE(cluster.steps_[0].released.empty());
  cluster.RunToEnd();
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(cluster.seen_[id].tokens, Cluster::Expected(Request(10, 20), 50, 20)) << id;
  }
  ExpectClean(cluster);
}

TEST(Scheduler, StepsThatWillNotBeAnsweredAreDroppedAndNoToken) {
  Cluster cluster(SmallOptions());
  GenerationRequest scored = Request(20, 6);
  scored.sampling.n_prompt_logprobs = 0;
  ASSERT_TRUE(cluster.Submit(1, scored).ok());
  for (uint64_t id = 2; id <= 4; ++id) ASSERT_TRUE(cluster.Submit(id, Request(10, 20)).ok());
  for (int i = 0; i < 2; ++i) cluster.Answer();  // in the middle of the first prompt
  for (uint64_t epoch = 2; epoch <= 8; ++epoch) {
    ASSERT_TRUE(cluster.scheduler_.has_outstanding());
    cluster.scheduler_.DropSteps();
    EXPECT_FALSE(cluster.scheduler_.has_outstanding());
    EXPECT_EQ(cluster.scheduler_.counts().pages_used, 0);
    cluster.steps_.clear();
    cluster.in_flight_.clear();
    cluster.sampling_.clear();
    SchedulerOptions next = SmallOptions();
    next.epoch = {epoch};
    cluster.pipeline_.StartEpoch(next.epoch);
    cluster.scheduler_.ChangePlan(next);
    cluster.Schedule();
    for (int i = 0; i < 5; ++i) cluster.Answer();
  }
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(scored, 50, 6));
  EXPECT_EQ(cluster.seen_[1].n_score_events, 1);
  for (uint64_t id = 2; id <= 4; ++id) {
    EXPECT_EQ(cluster.seen_[id].tokens, Cluster::Expected(Request(10, 20), 50, 20)) << id;
  }
  ExpectClean(cluster);
}

std::vector<SeqId> LoseWorker(Cluster* cluster) {
  std::vector<SeqId> given_up;
  for (const auto& [id, why] : cluster->LoseWorker()) {
    EXPECT_EQ(cluster->seen_[id.value].finish, FinishReason::kError);
    EXPECT_THAT(why.message(), HasSubstr("the last because: worker 7 is lost"));
    given_up.push_back(id);
  }
  return given_up;
}

std::set<SeqId> Running(const Cluster& cluster) {
  std::set<SeqId> running;
  for (const proto::StepBatch& step : cluster.steps_) {
    for (const proto::StepEntry& entry : step.entries) running.insert(entry.seq);
  }
  return running;
}

TEST(Scheduler, WhoWasInTheStepsOfTwoLossesRunsAloneAndIsGivenUpAtTheThird) {
  Cluster cluster(SmallOptions());
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster.Submit(id, Request(4, 20)).ok());
  cluster.Schedule();
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  EXPECT_EQ(Running(cluster), (std::set<SeqId>{{1}, {2}, {3}})) << "one loss says nothing";
  EXPECT_TRUE(LoseWorker(&cluster).empty()) << "any of the three";
  EXPECT_EQ(Running(cluster), std::set<SeqId>{{1}});
  EXPECT_EQ(LoseWorker(&cluster), std::vector<SeqId>{{1}});
  cluster.RunToEnd();
  for (uint64_t id = 2; id <= 3; ++id) {
    EXPECT_EQ(cluster.seen_[id].tokens, Cluster::Expected(Request(4, 20), 50, 20)) << id;
  }
}

// Who was there at a loss before, and has no token since, is the only one at its second loss; but
// it was not alone.
TEST(Scheduler, WhoWasInAnEarlierLossIsNotGivenUpForANewcomer) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(20, 20)).ok());
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  ASSERT_TRUE(cluster.Submit(2, Request(4, 20)).ok());
  while (!Running(cluster).contains({2})) cluster.Answer();
  ASSERT_EQ(Running(cluster), (std::set<SeqId>{{1}, {2}}));
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  EXPECT_EQ(Running(cluster), std::set<SeqId>{{1}}) << "apart from whom it may have died of";
  while (cluster.seen_[1].tokens.empty()) cluster.Answer();
  while (Running(cluster).size() < 2) cluster.Answer();
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  EXPECT_EQ(Running(cluster), std::set<SeqId>{{2}});
  EXPECT_EQ(LoseWorker(&cluster), std::vector<SeqId>{{2}});
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(Request(20, 20), 50, 20));
  ExpectClean(cluster);
}

// A worker may die of it as long as it computes it.
TEST(Scheduler, WhoWasCancelledIsCompanyInItsLastStep) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(20, 20)).ok());
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  ASSERT_TRUE(cluster.Submit(2, Request(4, 20)).ok());
  while (!Running(cluster).contains({2})) cluster.Answer();
  cluster.Cancel(2);
  EXPECT_TRUE(LoseWorker(&cluster).empty());
  cluster.RunToEnd();
  EXPECT_EQ(cluster.seen_[1].tokens, Cluster::Expected(Request(20, 20), 50, 20));
}

TEST(Scheduler, LossesWithTokensInBetweenAreNobodysFault) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(4, 20)).ok());
  cluster.Schedule();
  for (int i = 0; i < 8; ++i) {
    for (int k = 0; k < 2; ++k) cluster.Answer();
    EXPECT_TRUE(LoseWorker(&cluster).empty());
  }
  EXPECT_EQ(LoseWorker(&cluster), std::vector<SeqId>{{1}}) << "alone at two in a row";
}

TEST(Scheduler, RequestsThatNeverFitAreRefusedWithNumbers) {
  Cluster cluster(SmallOptions());
  const Status status = cluster.Submit(1, Request(60, 10));
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              HasSubstr("context_length_exceeded: the longest sequence is 64 tokens, but 70 were "
                        "requested (60 in the prompt, 10 to generate)"));
  EXPECT_EQ(cluster.Submit(1, Request(64, -1)).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(cluster.Submit(1, Request(0, 1)).message(), HasSubstr("prompt has no tokens"));
  GenerationRequest alien = Request(1, 1);
  alien.prompt = {50};
  EXPECT_THAT(cluster.Submit(1, alien).message(), HasSubstr("id=50 n_vocab=50"));
}

TEST(Scheduler, ListsThatTheCodecWouldRefuseAreRefused) {
  Cluster cluster(SmallOptions());
  GenerationRequest request = Request(1, 1);
  request.sampling.banned_ids.assign(proto::kMaxBannedIds + 1, 1);
  EXPECT_THAT(cluster.Submit(1, request).message(), HasSubstr("banned_ids has too many"));
  request = Request(1, 1);
  request.end_ids.assign(proto::kMaxEndIds + 1, 1);
  EXPECT_THAT(cluster.Submit(1, request).message(), HasSubstr("end_ids has too many"));
  request = Request(1, 1);
  request.sampling.logit_bias = {{-1, 1.0f}};
  EXPECT_THAT(cluster.Submit(1, request).message(), HasSubstr("logit_bias has a token id"));
}

TEST(Scheduler, FullQueueIsRefused) {
  SchedulerOptions options = SmallOptions();
  options.max_running = 1;
  options.max_waiting = 2;
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 3; ++id) ASSERT_TRUE(cluster.Submit(id, Request(4, 4)).ok());
  const Status status = cluster.Submit(4, Request(4, 4));
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("waiting=2 limit=2"));
  cluster.RunToEnd();
  ExpectClean(cluster);
}

TEST(Scheduler, AnswersThatDoNotFitTheStepAreErrors) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(4, 4)).ok());
  SchedulerActions actions;
  const auto answer = [&](proto::StepResult result) {
    Scheduler copy = cluster.scheduler_;
    return copy.OnResult(result, &actions).message();
  };
  EXPECT_THAT(answer({.step = {1}}), HasSubstr("lacks a sequence"));
  EXPECT_THAT(answer({.step = {1}, .entries = {{.seq = {1}}}}), HasSubstr("lacks a token"));
  const model::SampledToken alien{.token = 50};
  EXPECT_THAT(answer({.step = {1}, .entries = {{.seq = {1}, .sampled = alien}}}),
              HasSubstr("token=50 n_vocab=50"));
  EXPECT_EQ(answer({.step = {7}}), "");  // no such step: ignored
}

// What it says rightly of others does not count either: nobody would hear of their tokens.
TEST(Scheduler, AnAnswerThatIsWrongInPartCountsForNobody) {
  SchedulerOptions options = SmallOptions();
  options.n_batches = 1;
  options.max_in_flight = 1;
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 2; ++id) ASSERT_TRUE(cluster.Submit(id, Request(2, 30)).ok());
  while (cluster.steps_.front().entries.size() < 2) cluster.Answer();
  Scheduler& scheduler = cluster.scheduler_;
  const SchedulerCounts before = scheduler.counts();
  const proto::StepResult half{.step = cluster.steps_.front().step,
                               .entries = {{.seq = {1}, .sampled = model::SampledToken{}}}};
  SchedulerActions actions;
  EXPECT_THAT(scheduler.OnResult(half, &actions).message(), HasSubstr("lacks a sequence"));
  EXPECT_TRUE(actions.events.empty());
  EXPECT_EQ(scheduler.counts().generated_tokens, before.generated_tokens);
}

TEST(Scheduler, AnswersOutOfOrderAreErrors) {
  Cluster cluster(SmallOptions());
  ASSERT_TRUE(cluster.Submit(1, Request(20, 4)).ok());
  SchedulerActions actions;
  EXPECT_THAT(
      cluster.scheduler_.OnResult({.step = {2}, .entries = {{.seq = {1}}}}, &actions).message(),
      HasSubstr("step result out of order: step=2 expected=1"));
}

TEST(Scheduler, EndAllEndsEverySequenceOnce) {
  SchedulerOptions options = SmallOptions();
  options.max_running = 2;
  Cluster cluster(options);
  for (uint64_t id = 1; id <= 4; ++id) ASSERT_TRUE(cluster.Submit(id, Request(4, 40)).ok());
  SchedulerActions actions;
  cluster.scheduler_.EndAll(Unavailable("worker 2 is lost"), &actions);
  EXPECT_EQ(actions.events.size(), 4u);
  for (const auto& [id, event] : actions.events) {
    EXPECT_EQ(event.finish, FinishReason::kError);
    EXPECT_EQ(event.error.message(), "worker 2 is lost");
  }
  EXPECT_TRUE(cluster.scheduler_.idle());
}

}  // namespace
}  // namespace thermocline::coordinator
