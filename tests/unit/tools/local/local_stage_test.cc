// What `thermocline bench` and `generate` compute with replays decode steps as a service's worker
// does, with the same tokens; on the CUDA backend over the emulator.
#include "tools/local/local_stage.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/cuda/emulator.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tools/bench_model/case_runner.h"
#include "worker/assignment.h"
#include "worker/graph_table.h"

namespace thermocline::tools {
namespace {

constexpr int64_t kComings = worker::GraphTable::kComings;
constexpr int kMaxStepTokens = 8;

class LocalStageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::TinyModelSpec spec;
    spec.arch = "arcee";
    file_ = std::make_unique<testing::TempFile>(testing::TinyModel(spec));
    auto model = worker::OpenModel(file_->path());
    ASSERT_THAT(model.status(), testing::IsOk());
    model_ = std::make_unique<worker::LoadedModel>(*std::move(model));
  }

  static LocalStageOptions Options(bool uses_graphs) {
    LocalStageOptions options;
    options.ffn = model::FfnMode::kExact;
    options.kv.n_pages = 8;
    options.max_step_tokens = kMaxStepTokens;
    options.uses_graphs = uses_graphs;
    return options;
  }
  std::unique_ptr<LocalStage> OnEmulator(const LocalStageOptions& options) {
    auto device = kernels::cuda::MakeEmulatedDevice({});
    EXPECT_THAT(device.status(), testing::IsOk());
    auto stage = LocalStage::LoadOn(*std::move(device), *model_, options, worker::IgnoreProgress);
    EXPECT_THAT(stage.status(), testing::IsOk());
    return *std::move(stage);
  }

  std::unique_ptr<testing::TempFile> file_;
  std::unique_ptr<worker::LoadedModel> model_;
};

// Greedy: the first token is of the prompt's step, each other of a step of its own.
std::vector<int32_t> Tokens(LocalStage* stage, int n_tokens) {
  std::vector<int32_t> tokens;
  model::SamplingParams greedy;
  greedy.temperature = 0;
  proto::StepEntry entry{SeqId{1}, 0, {5, 17, 42}, true, proto::SequenceStart{greedy, 3}};
  while (static_cast<int>(tokens.size()) < n_tokens) {
    proto::StepBatch batch;
    batch.step = StepId{tokens.size() + 1};
    batch.entries.push_back(entry);
    const Status status = stage->Run(batch);
    EXPECT_THAT(status, testing::IsOk());
    if (!status.ok()) return {};
    tokens.push_back(stage->results().front().sampled->token);
    entry = {SeqId{1},
             entry.first_position + static_cast<int64_t>(entry.tokens.size()),
             {tokens.back()},
             true,
             std::nullopt};
  }
  return tokens;
}

TEST_F(LocalStageTest, DecodeStepsAreReplayedWithTheSameTokens) {
  constexpr int kTokens = 12;
  const auto replaying = OnEmulator(Options(true));
  const auto plain = OnEmulator(Options(false));
  const std::vector<int32_t> tokens = Tokens(replaying.get(), kTokens);
  EXPECT_EQ(tokens.size(), size_t{kTokens});
  EXPECT_EQ(tokens, Tokens(plain.get(), kTokens));
  EXPECT_EQ(replaying->n_replays(), kTokens - 1 - kComings);
  EXPECT_EQ(plain->n_replays(), 0);
}

// What a warm-up of kComings + 1 steps leaves to be timed is replayed, and reads the same bytes.
TEST_F(LocalStageTest, ABenchCountsItsReplays) {
  const auto replaying = OnEmulator(Options(true));
  const auto plain = OnEmulator(Options(false));
  const CaseRunner::Options options{model_->config.n_vocab, kMaxStepTokens, 1};
  CaseRunner with(replaying.get(), options), without(plain.get(), options);
  const BenchCase decode{.n_gen = 6, .batch = 2};
  for (CaseRunner* runner : {&with, &without}) {
    ASSERT_THAT(runner->Run({.n_gen = kComings + 1, .batch = 2}, -1).status(), testing::IsOk());
  }
  const auto fast = with.Run(decode, 1), slow = without.Run(decode, 1);
  ASSERT_THAT(fast.status(), testing::IsOk());
  ASSERT_THAT(slow.status(), testing::IsOk());
  EXPECT_EQ(fast->n_replays, fast->n_steps);
  EXPECT_EQ(slow->n_replays, 0);
  EXPECT_EQ(fast->traffic.weight_bytes, slow->traffic.weight_bytes);
  EXPECT_EQ(fast->traffic.kv_bytes, slow->traffic.kv_bytes);
  EXPECT_EQ(fast->traffic.n_neurons_active, slow->traffic.n_neurons_active);
  const auto prompt = with.Run({.n_prompt = 20}, 1);
  ASSERT_THAT(prompt.status(), testing::IsOk());
  EXPECT_EQ(prompt->n_replays, 0);
}

TEST_F(LocalStageTest, WatchedOpsAreNotReplayed) {
  OpTimes times;
  LocalStageOptions options = Options(true);
  options.observer = &times;
  const auto stage = OnEmulator(options);
  times.Watch(&stage->traffic());
  EXPECT_EQ(Tokens(stage.get(), 10).size(), 10u);
  EXPECT_EQ(stage->n_replays(), 0);
}

TEST_F(LocalStageTest, TheCpuReplaysNothing) {
  const auto stage = LocalStage::Load(*model_, Options(true), worker::IgnoreProgress);
  ASSERT_THAT(stage.status(), testing::IsOk());
  EXPECT_EQ(Tokens(stage->get(), 10).size(), 10u);
  EXPECT_EQ((*stage)->n_replays(), 0);
}

}  // namespace
}  // namespace thermocline::tools
