#include "tools/bench_model/runnable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A SwiGLU model, a ReLU^2 model and PowerInfer's.
class RunnableTest : public ::testing::Test {
 protected:
  RunnableTest() {
    testing::TinyModelSpec arcee, powerinfer;
    arcee.arch = "arcee";
    powerinfer.dialect = testing::GgufDialect::kPowerInfer;
    for (const testing::TinyModelSpec& spec : {testing::TinyModelSpec(), arcee, powerinfer}) {
      files_.push_back(std::make_unique<testing::TempFile>(testing::TinyModel(spec)));
      models_.push_back(std::move(worker::OpenModel(files_.back()->path())).value());
    }
  }
  BenchModels Models() const { return {models_, paths_}; }
  static BenchCases Cases(const std::vector<std::string>& paths,
                          const std::vector<std::string>& ffn) {
    BenchOptions options;
    options.model_paths = paths;
    options.prompts = {8};
    options.gens = {16};
    options.batches = {1};
    options.depths = {0};
    options.threads = {1, 2};
    options.ffn = ffn;
    options.cache_types = {DType::kF32};
    return CombineCases(options);
  }

  const std::vector<std::string> paths_ = {"silu.gguf", "relu.gguf", "pi.gguf"};
  std::vector<std::unique_ptr<testing::TempFile>> files_;
  std::vector<worker::LoadedModel> models_;
};

TEST_F(RunnableTest, AModeThatAModelCannotRunIsLeftOutWithItsReason) {
  const auto kept = KeepRunnable(Models(), Cases(paths_, {"dense", "exact"}), std::nullopt);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_THAT(kept->notes,
              ElementsAre(HasSubstr("not available: exact of silu.gguf: FFN mode exact needs")));
  ASSERT_EQ(kept->cases.setups.size(), 3u * 2 * 2 - 2);
  ASSERT_EQ(kept->cases.cases.size(), 2 * kept->cases.setups.size());
  for (size_t i = 0; i < kept->cases.cases.size(); ++i) {
    EXPECT_EQ(kept->cases.cases[i].i_setup, i / 2);
    const BenchSetup& setup = kept->cases.setups[i / 2];
    EXPECT_FALSE(setup.i_model == 0 && setup.ffn == "exact");
  }
}

TEST_F(RunnableTest, WithNothingLeftTheReasonIsTheError) {
  const auto kept = KeepRunnable(Models(), Cases({paths_[0]}, {"exact", "predicted"}), {});
  EXPECT_EQ(kept.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(kept.status().message(), HasSubstr("FFN mode exact needs"));
}

TEST_F(RunnableTest, WhatSaysLittleIsNoted) {
  BenchCases cases = Cases(paths_, {"dense"});
  EXPECT_THAT(CautionsFor(Models(), cases, 2, {}), ElementsAre());
  EXPECT_THAT(CautionsFor(Models(), cases, 1, {}), ElementsAre(HasSubstr("threads=2 cores=1")));
  cases.cases[1].depth = 497;  // 513 positions of the first model
  EXPECT_THAT(CautionsFor(Models(), cases, 2, {}),
              ElementsAre("tg16 @ d497 goes beyond the context that silu.gguf was trained for: "
                          "positions=513 trained=512"));
  EXPECT_THAT(CautionsFor(Models(), Cases(paths_, {"auto"}), 2, {}),
              ElementsAre(HasSubstr("pi.gguf: nobody has measured")));
}

}  // namespace
}  // namespace thermocline::tools
