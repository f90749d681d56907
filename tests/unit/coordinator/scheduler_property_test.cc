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

// One request that takes a worker with it wherever its row at `fatal` is computed.
class PoisonRun {
 public:
  explicit PoisonRun(uint64_t seed)
      : random_(seed), script_{.options = RandomOptions(&random_)}, cluster_(script_.options) {}

  void Run() {
    for (int round = 0; round < 200; ++round) {
      const int what = Draw(0, 9);
      if (what < 3) {
        Submit();
      } else if (what == 3 && next_id_ > 1) {
        Cancel(uint64_t(Draw(1, int(next_id_) - 1)));
      } else if (poison_ == 0 && n_by_chance_ == 0 && Draw(0, 9) == 0) {
        ++n_by_chance_;
        Lose();
      } else if (!cluster_.steps_.empty()) {
        Answer();
      }
    }
    // Far more than any run needs: a request that is tried for ever fails here.
    for (int i = 0; i < 20000 && !cluster_.steps_.empty(); ++i) Answer();
    EXPECT_TRUE(cluster_.scheduler_.idle());
  }

  void Check() {
    EXPECT_LE(n_by_poison_, kMostLosses + 1);
    for (const auto& [id, request] : script_.accepted) {
      const Seen& seen = cluster_.seen_[id];
      CheckSequence(script_, id, seen);
      const bool is_given_up = seen.finish == FinishReason::kError;
      EXPECT_TRUE(!is_given_up || id == poison_) << "innocent: seq " << id;
    }
    ExpectClean(cluster_);
  }
  bool PoisonIsGivenUp() { return cluster_.seen_[poison_].finish == FinishReason::kError; }
  int n_by_poison() const { return n_by_poison_; }

 private:
  int Draw(int low, int high) { return low + int(random_() % uint64_t(high - low + 1)); }

  void Submit() {
    GenerationRequest request = Request(Draw(1, 40), Draw(1, 14));
    for (int32_t& token : request.prompt) token = Draw(0, 49);
    const bool is_poison = poison_ == 0 && Draw(0, 8) == 0;
    const int n_prompt = int(request.prompt.size());
    const int fatal = Draw(0, n_prompt + request.max_tokens - 2);
    if (is_poison) {  // before a step with it is answered
      poison_ = next_id_;
      fatal_ = fatal;
    }
    const bool accepted = cluster_.Submit(next_id_, request).ok();
    if (accepted) script_.accepted[next_id_] = request;
    if (is_poison && !accepted) poison_ = 0;
    ++next_id_;
  }
  void Cancel(uint64_t id) {
    if (script_.accepted.contains(id)) script_.cancelled.insert(id);
    cluster_.Cancel(id);
  }
  void Answer() {
    for (const proto::StepEntry& entry : cluster_.steps_.front().entries) {
      const bool is_fatal = entry.seq.value == poison_ && entry.first_position <= fatal_ &&
                            fatal_ < Cluster::EndOf(entry);
      if (!is_fatal) continue;
      ++n_by_poison_;
      return Lose();
    }
    cluster_.Answer();
  }
  void Lose() {
    for (const auto& [id, why] : cluster_.LoseWorker()) {
      EXPECT_EQ(id.value, poison_) << why.message();
    }
  }

  std::mt19937_64 random_;
  Script script_;
  Cluster cluster_;
  uint64_t next_id_ = 1;
  uint64_t poison_ = 0;  // none yet
  int64_t fatal_ = 0;
  int n_by_poison_ = 0, n_by_chance_ = 0;
};

// Chance takes a worker before it comes; clients come and go all the time.
TEST(SchedulerProperty, OnlyTheRequestThatWorkersDieOfIsGivenUp) {
  int n_given_up = 0, n_third = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    PoisonRun run(seed);
    run.Run();
    run.Check();
    n_given_up += run.PoisonIsGivenUp();
    n_third += run.n_by_poison() > kMostLosses;
    if (HasFailure()) return;
  }
  EXPECT_GT(n_given_up, 100);
  EXPECT_GT(n_third, 50) << "most have company";
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
