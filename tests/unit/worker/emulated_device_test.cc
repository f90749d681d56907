// Stages on the CUDA backend, whose kernels an emulator runs on the host: they compute what the CPU
// does, but for roundings, and choose the same tokens.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/emulated_gpu.h"
#include "tests/support/shared_stage.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::NeuronRange;
using testing::ChainOptions;
using testing::Difference;
using testing::EmulatedGpu;
using testing::Logits;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr int kLayers = 2;
constexpr int64_t kNeurons = 128;
const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3};
// Sums of a few hundred products in another order.
constexpr double kRounding = 1e-4;
// Where the CPU rounds activations to 8 bits, which the GPU does not.
constexpr double kActivationRounding = 2e-2;

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF16) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = kLayers;
  spec.n_ff = static_cast<int>(kNeurons);
  spec.rope_freqs = arch == "llama";
  return spec;
}

class EmulatedStage : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Stage, EmulatedStage,
                         ::testing::Values("llama", "qwen2", "arcee", "nemotron", "opt"));

TEST_P(EmulatedStage, GivesTheLogitsAndTokensOfTheCpu) {
  const TempFile file(TinyModel(SpecOf(GetParam())));
  ChainOptions emulated;
  emulated.make_device = EmulatedGpu;
  const Logits wanted = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  StageChain chain(file.path(), emulated);
  EXPECT_LT(Difference(chain.Logits(SeqId{1}, kTokens, 4), wanted), kRounding);
  const auto tokens = StageChain(file.path(), {}).Generate(SeqId{2}, kTokens, 4);
  EXPECT_EQ(chain.Generate(SeqId{2}, kTokens, 4), tokens);
  emulated.records_logits = false;  // the best ones come alone
  EXPECT_EQ(StageChain(file.path(), emulated).Generate(SeqId{2}, kTokens, 4), tokens);
}

TEST(EmulatedDevice, ExactModeSkipsTheSameNeurons) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
    const TempFile file(TinyModel(SpecOf("arcee", dtype)));
    ChainOptions exact;
    exact.ffn = {FfnMode::kExact, true};
    const Logits wanted = StageChain(file.path(), exact).Logits(SeqId{1}, kTokens, 64);
    exact.make_device = EmulatedGpu;
    const double limit = dtype == DType::kF16 ? kRounding : kActivationRounding;
    EXPECT_LT(Difference(StageChain(file.path(), exact).Logits(SeqId{1}, kTokens, 64), wanted),
              limit)
        << DTypeName(dtype);
  }
}

TEST(EmulatedDevice, SeveralGiveTheBitsOfOne) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    TinyModelSpec spec = SpecOf("arcee", dtype);
    spec.n_ff = 192;
    const TempFile file(TinyModel(spec));
    ChainOptions alone;
    alone.ffn = {FfnMode::kExact, true};
    alone.make_device = EmulatedGpu;
    SharedStageOptions options{.modes = FfnMode::kExact,
                               .members = {{kLayers, NeuronRange{64, 128}},
                                           {kLayers, NeuronRange{0, 64}},
                                           {kLayers, NeuronRange{128, 192}}}};
    options.make_lead_device = options.make_helper_device = EmulatedGpu;
    EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 3),
              StageChain(file.path(), alone).Logits({1}, kTokens, 64))
        << DTypeName(dtype);
  }
}

// Heads of attention too: the bits of the emulated card alone.
TEST(EmulatedDevice, SharesHeads) {
  TinyModelSpec spec = SpecOf("arcee", DType::kQ8_0);
  spec.n_embd = 128, spec.n_head = 8, spec.n_head_kv = 4, spec.n_ff = 192;
  const TempFile file(TinyModel(spec));
  ChainOptions alone;
  alone.ffn = {FfnMode::kExact, true};
  alone.make_device = EmulatedGpu;
  const Logits wanted = StageChain(file.path(), alone).Logits({1}, kTokens, 64);
  SharedStageOptions options{.modes = FfnMode::kExact,
                             .members = {{kLayers, NeuronRange{0, 64}},
                                         {kLayers, NeuronRange{64, 192}},
                                         {kLayers, NeuronRange{}}},
                             .heads = {{1, 2}, {0, 1}, {2, 4}}};
  options.make_lead_device = options.make_helper_device = EmulatedGpu;
  for (const size_t chunk : {1, 3, 64}) {
    EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, chunk), wanted) << chunk;
  }
}

TEST(EmulatedDevice, LeadsAStageWhoseColdNeuronsTheCpuHas) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
    SharedStageOptions options{
        .modes = mode,
        .members = {{kLayers, NeuronRange{0, 48}}, {kLayers, NeuronRange{48, kNeurons}}}};
    const Logits wanted = SharedStage(file.path(), options).Logits({1}, kTokens, 64);
    options.make_lead_device = EmulatedGpu;
    EXPECT_LT(Difference(SharedStage(file.path(), options).Logits({1}, kTokens, 3), wanted),
              kRounding);
  }
}

}  // namespace
}  // namespace thermocline::worker
