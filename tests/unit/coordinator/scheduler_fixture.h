// A scheduler with stages that answer its steps when a test tells them to.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "coordinator/scheduler.h"
#include "proto/codec.h"
#include "tests/support/fake_pipeline.h"

namespace thermocline::coordinator {

using testing::FakePipeline;
using testing::FakePipelineOptions;

inline SchedulerOptions SmallOptions() {
  return {.epoch = {1},
          .n_ctx = 64,
          .n_vocab = 50,
          .page_tokens = 4,
          .n_pages = 32,
          .n_batches = 2,
          .max_in_flight = 3,
          .max_step_tokens = 32,
          .prefill_chunk = 8,
          .max_waiting = 8,
          .max_running = 16};
}

inline GenerationRequest Request(int n_prompt, int max_tokens) {
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
    const bool is_bare = steps_.front().entries.empty();
    AnswerWithoutScheduling();
    if (!is_bare) Schedule();
  }
  void AnswerWithoutScheduling() {
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
  }
  // What the engine does about a lost worker; who is given up, and why.
  std::vector<std::pair<SeqId, Status>> LoseWorker() {
    SchedulerActions actions;
    scheduler_.LoseSteps(Unavailable("worker 7 is lost"), &actions);
    steps_.clear();
    in_flight_.clear();
    sampling_.clear();
    SchedulerOptions next = options_;
    next.epoch = {++epoch_};
    pipeline_.StartEpoch(next.epoch);
    scheduler_.ChangePlan(next);
    Take(actions);
    Schedule();
    std::vector<std::pair<SeqId, Status>> given_up;
    for (const auto& [id, event] : actions.events) given_up.push_back({id, event.error});
    return given_up;
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
  uint64_t epoch_ = 1;
};

inline void ExpectClean(const Cluster& cluster) {
  EXPECT_THAT(cluster.pipeline_.violations(), ::testing::IsEmpty());
  EXPECT_EQ(cluster.scheduler_.counts().pages_used, 0);
  EXPECT_EQ(cluster.scheduler_.counts().n_running, 0);
  EXPECT_EQ(cluster.pipeline_.n_sequences(), 0u);
}

}  // namespace thermocline::coordinator
