#include "tools/bench_model/case_runner.h"

#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

class CaseRunnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::TinyModelSpec spec;
    spec.arch = "arcee";
    file_ = std::make_unique<testing::TempFile>(testing::TinyModel(spec));
    auto model = worker::OpenModel(file_->path());
    ASSERT_THAT(model.status(), testing::IsOk());
    model_ = std::make_unique<worker::LoadedModel>(*std::move(model));
    LocalStageOptions options;
    options.ffn = model::FfnMode::kExact;
    options.kv.n_pages = 8;  // as few as the cases need, so that a page not given back shows
    options.max_step_tokens = 8;
    auto stage = LocalStage::Load(*model_, options, worker::IgnoreProgress);
    ASSERT_THAT(stage.status(), testing::IsOk());
    stage_ = *std::move(stage);
  }
  CaseRunner Runner(uint64_t seed = 1) {
    return CaseRunner(stage_.get(), {model_->config.n_vocab, 8, seed});
  }

  std::unique_ptr<testing::TempFile> file_;
  std::unique_ptr<worker::LoadedModel> model_;
  std::unique_ptr<LocalStage> stage_;
};

TEST_F(CaseRunnerTest, ReadsPromptsInStepsAndDecodesBatches) {
  CaseRunner runner = Runner();
  const BenchCase cases[] = {{.n_prompt = 20},
                             {.n_gen = 5, .batch = 8},
                             {.n_gen = 3, .batch = 2, .depth = 40},
                             {.n_prompt = 8, .depth = 17}};
  for (int repetition = 0; repetition < 3; ++repetition) {
    for (const BenchCase& test : cases) {
      const auto sample = runner.Run(test, repetition);
      ASSERT_THAT(sample.status(), testing::IsOk()) << TestName(test);
      EXPECT_GT(sample->seconds, 0);
      EXPECT_GT(sample->traffic.weight_bytes, 0u);
      EXPECT_GT(sample->traffic.kv_bytes, 0u);
    }
  }
}

TEST_F(CaseRunnerTest, OpsAreWatchedWhereAskedFor) {
  OpTimes times;
  LocalStageOptions options;
  options.ffn = model::FfnMode::kExact;
  options.kv.n_pages = 8;
  options.max_step_tokens = 8;
  options.observer = &times;
  const auto stage = LocalStage::Load(*model_, options, worker::IgnoreProgress);
  ASSERT_THAT(stage.status(), testing::IsOk());
  times.Watch(&(*stage)->traffic());
  CaseRunner runner((*stage).get(), {model_->config.n_vocab, 8, 1, &times});
  for (int repetition = 0; repetition < 2; ++repetition) {
    const auto sample = runner.Run({.n_gen = 3, .batch = 2}, repetition);
    ASSERT_THAT(sample.status(), testing::IsOk());
    EXPECT_EQ(sample->n_steps, 3);
    double seconds = 0;
    uint64_t n_bytes = 0;
    for (const OpTime& op : sample->ops) {
      const bool is_of_layer = op.name == "matmul attn_q" || op.name == "axpy_rows ffn_down_t";
      if (is_of_layer) {
        EXPECT_EQ(op.n_calls, 3 * model_->config.n_layer) << op.name;
      }
      if (op.name == "norm output_norm") {
        EXPECT_EQ(op.n_calls, 3);
      }
      seconds += op.seconds;
      n_bytes += op.n_bytes;
    }
    EXPECT_GT(seconds, 0);
    EXPECT_LE(seconds, sample->seconds);
    EXPECT_EQ(n_bytes, sample->traffic.weight_bytes + sample->traffic.kv_bytes);
  }
}

// The density depends on the tokens, so equal counts mean equal tokens.
TEST_F(CaseRunnerTest, SameSeedSameTokensWhateverRanBefore) {
  const BenchCase test{.n_gen = 12, .batch = 2};
  const auto count = [&](CaseRunner runner, int repetition, bool after_others) {
    if (after_others) {
      EXPECT_THAT(runner.Run({.n_prompt = 9}, 5).status(), testing::IsOk());
    }
    return runner.Run(test, repetition)->traffic.n_neurons_active;
  };
  const uint64_t first = count(Runner(), 1, false);
  EXPECT_EQ(count(Runner(), 1, true), first);
  EXPECT_NE(count(Runner(), 2, false), first);
  EXPECT_NE(count(Runner(2), 1, false), first);
}

TEST_F(CaseRunnerTest, CountsOnlyTheTimedPart) {
  CaseRunner runner = Runner();
  const auto shallow = runner.Run({.n_prompt = 8}, 0);
  const auto deep = runner.Run({.n_prompt = 8, .depth = 32}, 0);
  ASSERT_THAT(shallow.status(), testing::IsOk());
  ASSERT_THAT(deep.status(), testing::IsOk());
  EXPECT_EQ(shallow->traffic.n_neurons, deep->traffic.n_neurons);
  EXPECT_GT(deep->traffic.kv_bytes, shallow->traffic.kv_bytes);
}

TEST_F(CaseRunnerTest, TooLargeACaseIsAnError) {
  EXPECT_FALSE(Runner().Run({.n_gen = 1, .batch = 9}, 0).ok());
}

}  // namespace
}  // namespace thermocline::tools
