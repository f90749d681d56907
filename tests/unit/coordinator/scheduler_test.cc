#include "coordinator/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "proto/codec.h"
#include "tests/support/fake_pipeline.h"

namespace thermocline::coordinator {
namespace {

using testing::FakePipeline;
using testing::FakePipelineOptions;
using ::testing::HasSubstr;

SchedulerOptions SmallOptions() {
  return {.epoch = {1},
          .n_ctx = 64,
          .n_vocab = 50,
          .page_tokens = 4,
          .n_pages = 32,
          .n_stages = 2,
          .max_in_flight = 3,
          .max_step_tokens = 32,
          .prefill_chunk = 8,
          .max_waiting = 8,
          .max_running = 16};
}

GenerationRequest Request(int n_prompt, int max_tokens) {
  GenerationRequest request{.max_tokens = max_tokens};
  for (int i = 0; i < n_prompt; ++i) request.prompt.push_back(i % 50);
  return request;
}

// What a client saw of one sequence.
struct Seen {
  std::vector<int32_t> tokens;
  std::vector<int32_t> scored;
  int n_score_events = 0;
  std::optional<FinishReason> finish;
};

// A scheduler and stages that answer steps in order, when told to.
class Cluster {
 public:
  explicit Cluster(const SchedulerOptions& options)
      : options_(options),
        scheduler_(options),
        pipeline_({.n_vocab = options.n_vocab,
                   .page_tokens = options.page_tokens,
                   .n_pages = options.n_pages,
                   .n_ctx = options.n_ctx,
                   .max_step_tokens = options.max_step_tokens}) {}

  Status Submit(uint64_t id, GenerationRequest request) {
    const Status status = scheduler_.Submit({id}, std::move(request));
    Schedule();
    return status;
  }
  void Cancel(uint64_t id) {
    SchedulerActions actions;
    scheduler_.Cancel({id}, &actions);
    Take(actions);
    Schedule();
  }
  // Answers the oldest outstanding step.
  void Answer() {
    const proto::StepBatch step = std::move(steps_.front());
    steps_.pop_front();
    const proto::StepResult result = pipeline_.Run(step);
    if (step.entries.empty()) return;
    for (const proto::StepEntry& entry : step.entries) {
      auto& ends = in_flight_[entry.seq];
      EXPECT_EQ(ends.front(), EndOf(entry)) << "out of order: seq " << entry.seq;
      ends.pop_front();
    }
    SchedulerActions actions;
    const Status status = scheduler_.OnResult(result, &actions);
    ASSERT_TRUE(status.ok()) << status;
    Take(actions);
    Schedule();
  }
  void RunToEnd() {
    // Far more than any test needs: a stalled or starving scheduler fails here.
    for (int i = 0; i < 20000 && !steps_.empty(); ++i) Answer();
    EXPECT_TRUE(steps_.empty());
    EXPECT_TRUE(scheduler_.idle());
  }
  void Schedule() {
    SchedulerActions actions;
    scheduler_.Schedule(&actions);
    Take(actions);
  }

  void Take(const SchedulerActions& actions) {
    for (const auto& [id, event] : actions.events) Record(id, event);
    for (const proto::StepBatch& step : actions.steps) {
      steps_.push_back(step);
      std::vector<std::byte> bytes;
      proto::Encode(step, &bytes);
      trace_.insert(trace_.end(), bytes.begin(), bytes.end());
      for (const proto::StepEntry& entry : step.entries) {
        CheckEntry(entry);
        const bool first_start = entry.start.has_value() && entry.seq.value > last_started_;
        if (first_start) last_started_ = entry.seq.value;
      }
    }
    const SchedulerCounts counts = scheduler_.counts();
    EXPECT_LE(counts.pages_used, options_.n_pages);
    EXPECT_GE(counts.pages_used, 0);
  }

  static int64_t EndOf(const proto::StepEntry& entry) {
    return entry.first_position + int64_t(entry.tokens.size());
  }

  // Only chunks of a prefill may be outstanding together, each where the one before it ends.
  void CheckEntry(const proto::StepEntry& entry) {
    auto& ends = in_flight_[entry.seq];
    if (!ends.empty() && !entry.start) {
      EXPECT_EQ(entry.first_position, ends.back()) << "gap: seq " << entry.seq;
      most_chunks_ = std::max(most_chunks_, ends.size() + 1);
    }
    // Behind a step that samples only the sequence's new start may come, after it gave way.
    EXPECT_FALSE(sampling_.contains(entry.seq) && !ends.empty() && !entry.start)
        << "does not wait for its token: seq " << entry.seq;
    sampling_.erase(entry.seq);
    if (entry.sample) sampling_.insert(entry.seq);
    ends.push_back(EndOf(entry));
  }

  void Record(SeqId id, const GenerationEvent& event) {
    Seen& seen = seen_[id.value];
    EXPECT_FALSE(seen.finish.has_value()) << "event after the end of seq " << id;
    if (!event.prompt_scores.empty()) {
      ++seen.n_score_events;
      EXPECT_TRUE(seen.tokens.empty()) << "scores after a token of seq " << id;
      for (const auto& score : event.prompt_scores) seen.scored.push_back(score.token);
    }
    if (event.token) seen.tokens.push_back(event.token->token);
    seen.finish = event.finish;
  }

  // What the stages would generate for a request that runs alone.
  static std::vector<int32_t> Expected(const GenerationRequest& request, int n_vocab, int n) {
    std::vector<int32_t> tokens = request.prompt;
    for (int i = 0; i < n; ++i) tokens.push_back(FakePipeline::NextToken(tokens, n_vocab));
    return {tokens.begin() + int64_t(request.prompt.size()), tokens.end()};
  }

  const SchedulerOptions options_;
  Scheduler scheduler_;
  FakePipeline pipeline_;
  std::deque<proto::StepBatch> steps_;
  std::map<SeqId, std::deque<int64_t>> in_flight_;  // ends of outstanding entries
  std::set<SeqId> sampling_;                        // whose latest entry samples
  size_t most_chunks_ = 0;                          // of one sequence outstanding together
  std::map<uint64_t, Seen> seen_;
  std::vector<std::byte> trace_;
  uint64_t last_started_ = 0;
};

void ExpectClean(const Cluster& cluster) {
  EXPECT_THAT(cluster.pipeline_.violations(), ::testing::IsEmpty());
  EXPECT_EQ(cluster.scheduler_.counts().pages_used, 0);
  EXPECT_EQ(cluster.scheduler_.counts().n_running, 0);
  EXPECT_EQ(cluster.pipeline_.n_sequences(), 0u);
}

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
  options.n_stages = 1;
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
  options.n_stages = 1;
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
  options.n_stages = 1;
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

struct Script {
  SchedulerOptions options;
  std::map<uint64_t, GenerationRequest> accepted;
  std::set<uint64_t> cancelled;
};

SchedulerOptions RandomOptions(std::mt19937_64* random) {
  const auto draw = [&](int low, int high) { return low + int((*random)() % (high - low + 1)); };
  SchedulerOptions options = SmallOptions();
  options.page_tokens = draw(1, 8);
  options.n_stages = draw(1, 4);
  options.max_in_flight = draw(1, options.n_stages + 2);
  options.max_step_tokens = draw(2, 40);
  options.prefill_chunk = draw(1, options.max_step_tokens);
  options.max_waiting = draw(1, 20);
  options.max_running = draw(1, 12);
  const int least = (options.n_ctx + options.page_tokens - 1) / options.page_tokens;
  options.n_pages = draw(least, 3 * least);
  return options;
}

// Random arrivals, cancels and answers; then everything runs to its end.
Script RunScript(uint64_t seed, std::unique_ptr<Cluster>* cluster) {
  std::mt19937_64 random(seed);
  const auto draw = [&](int low, int high) { return low + int(random() % (high - low + 1)); };
  Script script{.options = RandomOptions(&random)};
  *cluster = std::make_unique<Cluster>(script.options);
  uint64_t next_id = 1;
  for (int round = 0; round < 300; ++round) {
    const int what = draw(0, 9);
    if (what < 3) {
      GenerationRequest request = Request(draw(1, 50), draw(-1, 14));
      for (int32_t& token : request.prompt) token = draw(0, 49);
      if (draw(0, 3) == 0) request.sampling.n_prompt_logprobs = 0;
      if (draw(0, 1) == 0) request.end_ids = {draw(0, 49), draw(0, 49)};
      if ((*cluster)->Submit(next_id, request).ok()) script.accepted[next_id] = request;
      ++next_id;
    } else if (what == 3 && next_id > 1) {
      const uint64_t id = uint64_t(draw(1, int(next_id) - 1));
      if (script.accepted.contains(id)) script.cancelled.insert(id);
      (*cluster)->Cancel(id);
    } else if (!(*cluster)->steps_.empty()) {
      (*cluster)->Answer();
    }
  }
  (*cluster)->RunToEnd();
  return script;
}

void CheckSequence(const Script& script, uint64_t id, const Seen& seen) {
  const GenerationRequest& request = script.accepted.at(id);
  ASSERT_TRUE(seen.finish.has_value()) << "never ended: seq " << id;
  if (*seen.finish == FinishReason::kCancelled) {
    EXPECT_TRUE(script.cancelled.contains(id));
  }
  const auto expected =
      Cluster::Expected(request, script.options.n_vocab, int(seen.tokens.size()) + 1);
  EXPECT_EQ(seen.tokens, std::vector<int32_t>(expected.begin(), expected.end() - 1)) << id;
  if (*seen.finish == FinishReason::kStop) {
    EXPECT_THAT(request.end_ids, ::testing::Contains(expected.back()));
  }
  if (*seen.finish == FinishReason::kLength) {
    const int room = script.options.n_ctx - int(request.prompt.size());
    EXPECT_EQ(int(seen.tokens.size()), request.max_tokens < 0 ? room : request.max_tokens);
  }
  const bool scored = request.sampling.n_prompt_logprobs >= 0 && request.prompt.size() > 1;
  if (scored && *seen.finish != FinishReason::kCancelled) {
    EXPECT_EQ(seen.scored, std::vector<int32_t>(request.prompt.begin() + 1, request.prompt.end()));
    EXPECT_EQ(seen.n_score_events, 1);
  }
}

TEST(SchedulerProperty, EveryAcceptedSequenceEndsOnceWithItsTokens) {
  uint64_t preemptions = 0, n_sequences = 0;
  size_t most_chunks = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::unique_ptr<Cluster> cluster;
    const Script script = RunScript(seed, &cluster);
    for (const auto& [id, request] : script.accepted) {
      CheckSequence(script, id, cluster->seen_[id]);
    }
    ExpectClean(*cluster);
    preemptions += cluster->scheduler_.counts().preemptions;
    n_sequences += script.accepted.size();
    most_chunks = std::max(most_chunks, cluster->most_chunks_);
    if (HasFailure()) return;
  }
  EXPECT_GT(preemptions, 100u);
  EXPECT_GT(n_sequences, 3000u);
  EXPECT_GT(most_chunks, 3u);
}

TEST(SchedulerProperty, EqualInputsGiveEqualBytes) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::unique_ptr<Cluster> first, second;
    RunScript(seed, &first);
    RunScript(seed, &second);
    EXPECT_EQ(first->trace_, second->trace_) << "seed " << seed;
  }
}

}  // namespace
}  // namespace thermocline::coordinator
