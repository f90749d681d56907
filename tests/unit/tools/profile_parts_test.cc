#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/rng.h"
#include "model/fingerprint.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tools/profile/activity_collector.h"
#include "tools/profile/flags.h"
#include "tools/profile/guard.h"
#include "tools/profile/html_report.h"
#include "tools/profile/predictor_samples.h"
#include "tools/profile/sparsity_file.h"
#include "tools/profile/threshold_search.h"
#include "tools/profile/train_predictors.h"
#include "tools/profile/window_runner.h"
#include "tools/svg_chart.h"

namespace thermocline::tools {
namespace {

using testing::TempFile;

testing::TinyModelSpec SpecOf(const std::string& arch, const std::string& activation = "") {
  testing::TinyModelSpec spec;
  spec.arch = arch;
  spec.activation = activation;
  spec.n_ff = 97;  // a prime: nothing may want whole blocks of neurons
  return spec;
}

TextWindows RandomText(int n_windows, int n_tokens, uint64_t seed) {
  TextWindows text;
  uint64_t position = 0;
  for (int w = 0; w < n_windows; ++w) {
    Window window;
    for (int i = 0; i < n_tokens; ++i) {
      window.push_back(3 + static_cast<int32_t>(UniformAt(seed, position++) * 250));
    }
    text.windows.push_back(std::move(window));
  }
  return text;
}

class EachKindOfFfn : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(Profile, EachKindOfFfn,
                         ::testing::Values(std::pair{"arcee", ""}, std::pair{"nemotron", ""},
                                           std::pair{"llama", "relu"}, std::pair{"llama", ""},
                                           std::pair{"opt", ""}));

// Keeps what the down projection reads, as an independent count.
class DownRecorder final : public worker::OpObserver {
 public:
  void OnOp(const worker::LoweredOp& op, TensorView input, TensorView) override {
    if (op.key.role != model::WeightRole::kFfnDown) return;
    for (int64_t t = 0; t < input.n_rows; ++t) {
      for (int64_t i = 0; i < input.n_cols; ++i) {
        n_active[op.key.layer] += input.f32_row(t)[i] != 0 ? 1 : 0;
      }
    }
  }
  std::map<int, uint64_t> n_active;
};

TEST_P(EachKindOfFfn, CountsWhatTheDownProjectionReads) {
  const TempFile file(testing::TinyModel(SpecOf(GetParam().first, GetParam().second)));
  const auto model = std::move(worker::OpenModel(file.path())).value();
  const TextWindows text = RandomText(6, 32, 1);
  ActivityCollector collector(model.config, {{}, 4});
  DownRecorder recorder;
  for (worker::OpObserver* observer : {static_cast<worker::OpObserver*>(&collector),
                                       static_cast<worker::OpObserver*>(&recorder)}) {
    RunnerOptions options;
    options.observer = observer;
    const auto runner = std::move(WindowRunner::Create(model, options)).value();
    for (const Window& window : text.windows) ASSERT_TRUE(runner->Run(window, false).ok());
  }
  ASSERT_TRUE(collector.status().ok());
  const auto layers = collector.Take(1);
  ASSERT_EQ(layers.size(), 2u);
  for (int l = 0; l < 2; ++l) {
    const model::LayerActivity& layer = layers[static_cast<size_t>(l)];
    uint64_t n = 0;
    for (const uint64_t count : layer.fired) n += count;
    EXPECT_EQ(n, recorder.n_active[l]);
    const double density = model::Density(layer.fired, text.n_tokens());
    EXPECT_NEAR(static_cast<double>(layer.union_shares[0]), density, 0.1);
    EXPECT_GE(layer.union_shares.back() + 1e-6f, layer.union_shares[0]);
    EXPECT_LT(layer.gate.min, 0);
    EXPECT_GT(layer.gate.max, 0);
    EXPECT_GE(layer.quantiles.back(), layer.quantiles[50]);
  }
}

TEST(ActivityCollector, NamesTheLayerWhoseValuesAreNoNumbers) {
  testing::GgufImage image = testing::TinyModelImage(SpecOf("arcee"));
  std::string& data = image.Tensor("blk.1.ffn_up.weight").data;
  // Finite, but not their sum over a row.
  for (size_t i = 0; i < 64; ++i) data.replace(4 * i, 4, testing::Packed(3e38f));
  const TempFile file(image.Bytes());
  const auto model = std::move(worker::OpenModel(file.path())).value();
  ActivityCollector collector(model.config, {});
  RunnerOptions options;
  options.observer = &collector;
  const auto runner = std::move(WindowRunner::Create(model, options)).value();
  ASSERT_TRUE(runner->Run({5, 6, 7}, false).ok());
  EXPECT_NE(collector.status().message().find("layer=1 window=0"), std::string::npos)
      << collector.status();
}

TEST(Magnitudes, AreThoseOfTheActivation) {
  const std::vector<float> values = {-2, 0, 3};
  std::vector<float> out(3);
  Magnitudes(model::Activation::kRelu, values, out);
  EXPECT_EQ(out, (std::vector<float>{0, 0, 3}));
  Magnitudes(model::Activation::kReluSquared, values, out);
  EXPECT_EQ(out, (std::vector<float>{0, 0, 9}));
  Magnitudes(model::Activation::kSilu, values, out);
  EXPECT_NEAR(out[0], 2 / (1 + std::exp(2.0)), 1e-6);
  EXPECT_EQ(out[1], 0);
  EXPECT_NEAR(out[2], 3 / (1 + std::exp(-3.0)), 1e-6);
}

TEST(WindowRunner, DecodingReadsWhatAWholeWindowReads) {
  const TempFile file(testing::TinyModel(SpecOf("arcee")));
  const auto model = std::move(worker::OpenModel(file.path())).value();
  const TextWindows text = RandomText(1, 40, 2);
  std::vector<std::vector<uint64_t>> fired;
  for (const bool decodes : {false, true}) {
    ActivityCollector collector(model.config, {});
    RunnerOptions options;
    options.observer = &collector;
    const auto runner = std::move(WindowRunner::Create(model, options)).value();
    int n_steps = 0;
    const Status status = decodes ? runner->Decode(text.windows[0], [&] { ++n_steps; })
                                  : runner->Run(text.windows[0], false);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(n_steps, decodes ? 40 : 0);
    fired.push_back(collector.Take(1)[1].fired);
  }
  EXPECT_EQ(fired[0], fired[1]);
}

TEST(Guard, ExactLosesNothing) {
  const TempFile file(testing::TinyModel(SpecOf("llama", "relu")));
  const auto model = std::move(worker::OpenModel(file.path())).value();
  const auto modes = AvailableModes(model);
  EXPECT_EQ(modes, (std::vector{model::FfnMode::kDense, model::FfnMode::kExact}));
  const auto guard = MeasureModes(model, RandomText(3, 32, 3), modes, {1, 64, 0.01, true});
  ASSERT_TRUE(guard.ok()) << guard.status();
  EXPECT_EQ(guard->n_tokens, 3u * 31);
  EXPECT_GT(guard->results[0].perplexity, 50);  // random weights know nothing of 288 tokens
  EXPECT_NEAR(guard->results[1].loss, 0, 1e-6);
  EXPECT_EQ(*LossOf(*guard, model::FfnMode::kDense), 0);
  EXPECT_FALSE(LossOf(*guard, model::FfnMode::kPredicted).has_value());
}

// Trains, writes, attaches and runs: what the sparsity file's reader makes of the writer's file.
TEST(SparsityFile, PredictorsRunAsTheyWereMeasured) {
  const TempFile file(testing::TinyModel(SpecOf("llama", "relu")));
  auto model = std::move(worker::OpenModel(file.path())).value();
  const TextWindows text = RandomText(30, 32, 4);
  ActivityCollector collector(model.config, {});
  RunnerOptions runner_options;
  runner_options.observer = &collector;
  const auto runner = std::move(WindowRunner::Create(model, runner_options)).value();
  for (const Window& window : text.windows) ASSERT_TRUE(runner->Run(window, false).ok());
  const auto activity = collector.Take(1);

  PredictorOptions options;
  options.kind = model::PredictorKind::kLinear;
  options.budget_share = 1;
  options.quiet = true;
  const auto made = TrainPredictors(model, text, activity, options);
  ASSERT_TRUE(made.ok()) << made.status();
  for (const PredictorReport& report : made->reports) {
    EXPECT_GE(report.quality.recall, 0.97);
    // A linear predictor of full rank is the gate itself, but for rounding and the recall.
    EXPECT_GT(report.quality.precision, 0.5);
    EXPECT_EQ(report.bytes, PredictorBytes(64, 97, report.hidden, report.dtype));
  }

  SparsityContent content;
  content.predictors = made->stored;
  content.activation_thresholds = {0.25f, -1};
  content.guard.predicted = 0.003f;
  content.guard.allowed = 0.01f;
  const auto gguf = model::GgufFile::Parse(*model.reader);
  content.fingerprint = *model::FingerprintOf(*model.reader, *gguf);
  const TempFile sparsity_file({});
  ASSERT_TRUE(WriteSparsityFile(content, sparsity_file.path()).ok());
  const Status attached = worker::AttachSparsityFile(sparsity_file.path(), &model);
  ASSERT_TRUE(attached.ok()) << attached;
  EXPECT_EQ(model.sparsity.layers[0].predictor, model::PredictorKind::kLinear);
  EXPECT_EQ(model.sparsity.layers[0].input, model::PredictorInput::kFfnNorm);
  EXPECT_EQ(model.sparsity.layers[0].n_hidden, made->reports[0].hidden);
  EXPECT_EQ(model.sparsity.layers[1].predictor_threshold, made->stored[1].threshold);
  EXPECT_EQ(model.sparsity.layers[0].activation_threshold, 0.25f);
  EXPECT_FALSE(model.sparsity.layers[1].has_threshold());
  EXPECT_EQ(model.sparsity.guard.predicted, 0.003f);

  const auto guard =
      MeasureModes(model, RandomText(6, 32, 5),
                   {model::FfnMode::kDense, model::FfnMode::kPredicted}, {1, 64, 0.01, true});
  ASSERT_TRUE(guard.ok()) << guard.status();
  EXPECT_LT(std::fabs(guard->results[1].loss), 0.02);
  const auto shares = PredictorTimeShares(model, text, {1, 64, 0.01, true});
  ASSERT_TRUE(shares.ok()) << shares.status();
  for (const double share : *shares) {
    EXPECT_GT(share, 0);
    EXPECT_LT(share, 1);
  }
}

TEST(SparsityFile, OfAnotherModelIsRefused) {
  const TempFile file(testing::TinyModel(SpecOf("llama", "relu")));
  auto model = std::move(worker::OpenModel(file.path())).value();
  SparsityContent content;
  content.fingerprint = std::string(32, '0');
  content.activation_thresholds = {0.5f, 0.5f};
  const TempFile sparsity_file({});
  ASSERT_TRUE(WriteSparsityFile(content, sparsity_file.path()).ok());
  EXPECT_EQ(worker::AttachSparsityFile(sparsity_file.path(), &model).code(),
            StatusCode::kInvalidArgument);
  content.activation_thresholds.clear();
  EXPECT_EQ(WriteSparsityFile(content, sparsity_file.path()).code(), StatusCode::kInvalidArgument);
}

TEST(Thresholds, LieBetweenTheRecordedQuantiles) {
  EXPECT_FLOAT_EQ(MagnitudeAt({0, 1, 3}, 0.25), 0.5f);
  EXPECT_FLOAT_EQ(MagnitudeAt({0, 1, 3}, 0.75), 2.0f);
  EXPECT_FLOAT_EQ(MagnitudeAt({0, 1, 3}, 1), 3.0f);
  EXPECT_FLOAT_EQ(MagnitudeAt({0, 1, 3}, 7), 3.0f);
}

TEST(Training, ATextThatIsTooShortIsRefused) {
  const TempFile file(testing::TinyModel(SpecOf("arcee")));
  const auto model = std::move(worker::OpenModel(file.path())).value();
  const auto made = TrainPredictors(model, RandomText(2, 32, 1), {}, {});
  EXPECT_EQ(made.status().message(), "text is too short to make predictors: tokens=64 needed=500");
}

TEST(Html, TextFromFilesIsEscaped) {
  EXPECT_EQ(HtmlEscaped("<a href='x'>\"&"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;");
  model::SparsityProfile profile;
  profile.model_name = "<script>alert(1)</script>";
  profile.fingerprint = std::string(32, 'a');
  profile.n_tokens = 3;
  profile.layers.resize(1);
  profile.layers[0].fired = {3, 0, 1};
  const std::string page = HtmlReport(profile, {});
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

TEST(Html, NumbersAreShort) {
  EXPECT_EQ(ShortNumber(1.50, 3), "1.5");
  EXPECT_EQ(ShortNumber(2.0, 2), "2");
  EXPECT_EQ(ShortNumber(-0.0001, 2), "0");
  EXPECT_EQ(ShortNumber(100, 0), "100");
}

TEST(ProfileFlags, WhatContradictsItselfIsNamed) {
  ProfileFlags flags;
  EXPECT_EQ(CheckProfileFlags(flags).message(), "give either --text FILE or --import-counts DIR");
  flags.text_path = "t";
  EXPECT_TRUE(CheckProfileFlags(flags).ok());
  flags.predictor_kind = "oracle";
  EXPECT_NE(CheckProfileFlags(flags).message().find("--predictor-kind \"oracle\""),
            std::string::npos);
  flags.predictor_kind = "lowrank";
  flags.held_out = "1.5";
  EXPECT_NE(CheckProfileFlags(flags).message().find("--held-out"), std::string::npos);
  flags.held_out = "other.txt";
  EXPECT_TRUE(CheckProfileFlags(flags).ok());
  flags.threshold_target = -1;
  EXPECT_NE(CheckProfileFlags(flags).message().find("--threshold-target"), std::string::npos);
  flags.threshold_target = 0;
  EXPECT_TRUE(CheckProfileFlags(flags).ok());
  flags.ffn = "exact";
  EXPECT_NE(CheckProfileFlags(flags).message().find("--ffn"), std::string::npos);
  flags.perplexity_only = true;
  EXPECT_NE(CheckProfileFlags(flags).message().find("--threshold-target"), std::string::npos);
  flags.threshold_target.reset();
  EXPECT_TRUE(CheckProfileFlags(flags).ok());
}

}  // namespace
}  // namespace thermocline::tools
