// Random arrivals, cancels and answers: what holds of every run.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/coordinator/scheduler_fixture.h"

namespace thermocline::coordinator {
namespace {

struct Script {
  SchedulerOptions options;
  std::map<uint64_t, GenerationRequest> accepted;
  std::set<uint64_t> cancelled;
};

SchedulerOptions RandomOptions(std::mt19937_64* random) {
  const auto draw = [&](int low, int high) { return low + int((*random)() % (high - low + 1)); };
  SchedulerOptions options = SmallOptions();
  options.page_tokens = draw(1, 8);
  options.n_batches = draw(1, 4);
  options.max_in_flight = draw(1, options.n_batches + 2);
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
