// Modes that ask predictors or thresholds on the CUDA backend, over the emulator: they skip what
// the CPU skips, alone, beside a CPU that has the cold neurons, and when steps are replayed.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/emulated_gpu.h"
#include "tests/support/shared_stage.h"
#include "tests/support/sparse_model.h"
#include "tests/support/stage_chain.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::NeuronRange;
using testing::ChainOptions;
using testing::Difference;
using testing::EmulatedGpu;
using testing::Logits;
using testing::MakeSparseModel;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::SparseModel;
using testing::StageChain;
using testing::TinyModelSpec;

constexpr int kLayers = 2;
constexpr int64_t kNeurons = 128;
const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3};
// Sums of a few hundred products in another order.
constexpr double kRounding = 1e-4;
constexpr uint64_t kGraphBytes = uint64_t{64} << 20;

struct Case {
  std::string arch;
  FfnMode mode;
};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  return info.param.arch + "_" + std::string(FfnModeName(info.param.mode));
}

class EmulatedModes : public ::testing::TestWithParam<Case> {
 protected:
  EmulatedModes()
      : files_(
            MakeSparseModel(Spec(), {.predictor_threshold = 0.1f, .activation_threshold = 0.1f})) {}

  static TinyModelSpec Spec() {
    TinyModelSpec spec;
    spec.arch = GetParam().arch;
    spec.dtype = DType::kF16;
    spec.n_layer = kLayers;
    spec.n_ff = static_cast<int>(kNeurons);
    return spec;
  }

  ChainOptions Alone(FfnMode mode) const {
    ChainOptions options;
    options.ffn = {mode, true};
    options.sparsity_path = files_.sparsity->path();
    return options;
  }
  Logits LogitsOf(const ChainOptions& options, size_t chunk) const {
    return StageChain(files_.model->path(), options).Logits(SeqId{1}, kTokens, chunk);
  }

  const SparseModel files_;
};

INSTANTIATE_TEST_SUITE_P(Stage, EmulatedModes,
                         ::testing::Values(Case{"llama", FfnMode::kPredicted},
                                           Case{"arcee", FfnMode::kPredicted},
                                           Case{"opt", FfnMode::kPredicted},
                                           Case{"llama", FfnMode::kThresholded},
                                           Case{"nemotron", FfnMode::kThresholded}),
                         NameOf);

TEST_P(EmulatedModes, SkipWhatTheCpuSkips) {
  ChainOptions options = Alone(GetParam().mode);
  const Logits wanted = LogitsOf(options, 64);
  // Something is skipped, and it is told apart from a rounding.
  EXPECT_GT(Difference(LogitsOf(Alone(FfnMode::kDense), 64), wanted), 50 * kRounding);
  options.make_device = EmulatedGpu;
  const Logits whole = LogitsOf(options, 64);
  EXPECT_LT(Difference(whole, wanted), kRounding);
  EXPECT_EQ(LogitsOf(options, 1), whole);
}

TEST_P(EmulatedModes, ReplayedStepsGiveTheSameTokens) {
  ChainOptions options = Alone(GetParam().mode);
  options.make_device = EmulatedGpu;
  options.records_logits = false;
  const auto wanted = StageChain(files_.model->path(), options).Generate(SeqId{1}, kTokens, 6);
  options.graph_bytes = kGraphBytes;
  StageChain replaying(files_.model->path(), options);
  EXPECT_EQ(replaying.Generate(SeqId{1}, kTokens, 6), wanted);
  ASSERT_NE(replaying.last().graphs(), nullptr);
  EXPECT_GT(replaying.last().graphs()->n_replays(), 0);
}

TEST_P(EmulatedModes, TheCpuHasTheColdNeurons) {
  SharedStageOptions options{
      .modes = GetParam().mode,
      .sparsity_path = files_.sparsity->path(),
      .members = {{kLayers, NeuronRange{0, 64}}, {kLayers, NeuronRange{64, kNeurons}}}};
  const auto logits = [&] {
    return SharedStage(files_.model->path(), options).Logits({1}, kTokens, 3);
  };
  const Logits wanted = logits();
  options.make_lead_device = EmulatedGpu;
  const Logits emulated = logits();
  EXPECT_LT(Difference(emulated, wanted), kRounding);
  options.graph_bytes = kGraphBytes;
  SharedStage replaying(files_.model->path(), options);
  EXPECT_EQ(replaying.Logits({1}, kTokens, 1), emulated);
  EXPECT_GT(replaying.lead().graphs()->n_span_replays(), 0);
}

}  // namespace
}  // namespace thermocline::worker
