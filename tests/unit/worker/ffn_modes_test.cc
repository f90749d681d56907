// Every FFN mode through whole stages: what must be equal is equal to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "model/fingerprint.h"
#include "model/gguf.h"
#include "tests/support/sparse_model.h"
#include "tests/support/stage_chain.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::FfnModes;
using testing::ChainOptions;
using testing::GgufImage;
using ::testing::HasSubstr;
using testing::MakeSparseModel;
using testing::OneEntry;
using testing::SparseModel;
using testing::SparsitySpec;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModelSpec;

using Logits = std::vector<std::vector<float>>;

constexpr float kEveryNeuron = -std::numeric_limits<float>::infinity();
// The least normal number: what is computed as more than 0 reaches it.
constexpr float kAboveZero = std::numeric_limits<float>::min();

// Of the absolute differences of 11 * 288 logits of deviation 3, each some 1e-6 of it.
constexpr double kRounding = 0.1;

const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3, 3, 200, 61, 7};

struct Case {
  const char* name;
  TinyModelSpec spec;
};

std::vector<Case> Cases() {
  TinyModelSpec llama, reglu, arcee, nemotron, bamboo, opt;
  reglu.activation = "relu";
  arcee.arch = "arcee";
  nemotron.arch = "nemotron";
  bamboo.arch = "bamboo";
  opt.arch = "opt";
  return {{"swiglu", llama},      {"reglu", reglu},  {"arcee", arcee},
          {"nemotron", nemotron}, {"drelu", bamboo}, {"opt", opt}};
}

ChainOptions OptionsOf(const SparseModel& files, FfnModes modes) {
  ChainOptions options;
  options.ffn = {modes, true};
  if (files.sparsity != nullptr) options.sparsity_path = files.sparsity->path();
  return options;
}

Logits LogitsOf(const SparseModel& files, FfnModes modes, size_t chunk = 64) {
  return StageChain(files.model->path(), OptionsOf(files, modes)).Logits(SeqId{1}, kTokens, chunk);
}

FfnModes All(std::initializer_list<FfnMode> modes) {
  FfnModes set;
  for (const FfnMode mode : modes) set.Add(mode);
  return set;
}

double Distance(const Logits& a, const Logits& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) sum += std::abs(a[i][j] - b[i][j]);
  }
  return sum;
}

TEST(FfnModes, APredictorThatNamesEveryNeuronGivesTheBitsOfDense) {
  for (const Case& c : Cases()) {
    for (const char* kind : {"relu", "linear"}) {
      for (const char* input : {"residual", "ffn_norm"}) {
        const SparseModel files = MakeSparseModel(
            c.spec, {.kind = kind, .input = input, .predictor_threshold = kEveryNeuron});
        const Logits dense = LogitsOf(files, FfnMode::kDense);
        const Logits predicted = LogitsOf(files, FfnMode::kPredicted);
        EXPECT_TRUE(predicted == dense) << c.name << " " << kind << " " << input;
      }
    }
  }
}

TEST(FfnModes, AnExactPredictorGivesTheBitsOfDense) {
  for (const Case& c : Cases()) {
    if (c.name == std::string("swiglu")) continue;  // silu leaves no zeros to predict
    if (c.name == std::string("opt")) continue;     // predictors do not know the bias of up
    const SparsitySpec spec{
        .kind = "linear", .input = "ffn_norm", .predictor_threshold = kAboveZero};
    const SparseModel files = MakeSparseModel(c.spec, spec, true);
    const Logits dense = LogitsOf(files, FfnMode::kDense);
    EXPECT_TRUE(LogitsOf(files, FfnMode::kPredicted) == dense) << c.name;
    EXPECT_TRUE(LogitsOf(files, FfnMode::kExact) == dense) << c.name;
  }
}

TEST(FfnModes, PredictorsDecide) {
  for (const Case& c : Cases()) {
    const SparseModel files = MakeSparseModel(c.spec, {.predictor_threshold = 0.1f});
    EXPECT_GT(Distance(LogitsOf(files, FfnMode::kPredicted), LogitsOf(files, FfnMode::kDense)), 1.0)
        << c.name;
  }
}

TEST(FfnModes, ThresholdsOfZeroGiveTheBitsOfDenseAndLargerOnesDoNot) {
  for (const Case& c : Cases()) {
    const SparseModel none = MakeSparseModel(c.spec, {.kind = "", .activation_threshold = 0});
    const Logits dense = LogitsOf(none, FfnMode::kDense);
    EXPECT_TRUE(LogitsOf(none, FfnMode::kThresholded) == dense) << c.name;
    const SparseModel some = MakeSparseModel(c.spec, {.kind = "", .activation_threshold = 0.3f});
    EXPECT_GT(Distance(LogitsOf(some, FfnMode::kThresholded), dense), 1.0) << c.name;
  }
}

// Chunked prefill, batches with others, threads: each token has the bits it has alone.
TEST(FfnModes, ATokenHasTheBitsItHasAlone) {
  for (const Case& c : Cases()) {
    const SparseModel files =
        MakeSparseModel(c.spec, {.predictor_threshold = 0.1f, .activation_threshold = 0.1f});
    for (const FfnMode mode : model::kFfnModes) {
      if (mode == FfnMode::kExact && c.name == std::string("swiglu")) continue;
      const Logits whole = LogitsOf(files, mode);
      EXPECT_TRUE(LogitsOf(files, mode, 1) == whole) << c.name << " " << FfnModeName(mode);
      ChainOptions options = OptionsOf(files, mode);
      options.n_threads = 3;
      StageChain together(files.model->path(), options);
      proto::StepBatch batch = OneEntry(SeqId{7}, 0, {9, 8, 7, 6}, false, 4);
      batch.entries.push_back(OneEntry(SeqId{8}, 0, kTokens, false, 11).entries.front());
      ASSERT_TRUE(together.Run(batch).ok());
      for (size_t i = 0; i < kTokens.size(); ++i) {
        EXPECT_EQ((together.logits().rows[{SeqId{8}, static_cast<int64_t>(i)}]), whole[i])
            << c.name << " " << FfnModeName(mode) << " " << i;
      }
    }
  }
}

TEST(FfnModes, TheCpuAgreesWithTheReference) {
  for (const Case& c : Cases()) {
    const SparseModel files = MakeSparseModel(c.spec, {.predictor_threshold = kEveryNeuron});
    ChainOptions options = OptionsOf(files, FfnMode::kPredicted);
    const Logits got = StageChain(files.model->path(), options).Logits(SeqId{1}, kTokens, 64);
    options.reference_device = true;
    const Logits wanted = StageChain(files.model->path(), options).Logits(SeqId{1}, kTokens, 64);
    EXPECT_LT(Distance(got, wanted), kRounding) << c.name;
  }
}

// Whatever auto tries and takes, dense and exact give the same bits.
TEST(FfnModes, AutoOverDenseAndExactGivesTheBitsOfDense) {
  for (const Case& c : Cases()) {
    if (c.name == std::string("swiglu")) continue;
    const SparseModel files = MakeSparseModel(c.spec, {});
    const FfnModes both = All({FfnMode::kDense, FfnMode::kExact});
    const Logits dense = LogitsOf(files, FfnMode::kDense);
    EXPECT_TRUE(LogitsOf(files, both, 1) == dense) << c.name;
    EXPECT_TRUE(LogitsOf(files, both, 2) == dense) << c.name;
  }
}

TEST(FfnModes, TheStageTellsWhatItRuns) {
  TinyModelSpec spec;
  spec.activation = "relu";
  const SparseModel files = MakeSparseModel(spec, {});
  const auto text = [&](FfnModes modes) {
    StageChain chain(files.model->path(), OptionsOf(files, modes));
    chain.Logits(SeqId{1}, kTokens, 1);
    return chain.last().FfnText();
  };
  EXPECT_EQ(text(FfnMode::kDense), "ffn dense");
  EXPECT_EQ(text(FfnMode::kPredicted), "ffn predicted");
  EXPECT_THAT(text(All({FfnMode::kDense, FfnMode::kExact})), HasSubstr("ffn auto: "));
}

TEST(FfnModes, LayersWithoutPredictorFallBackAndAreTold) {
  TinyModelSpec spec;
  spec.activation = "relu";
  const GgufImage model = testing::TinyModelImage(spec);
  const TempFile file(model.Bytes());
  auto loaded = OpenModel(file.path());
  ASSERT_TRUE(loaded.ok());
  const auto header = model::GgufFile::Parse(*loaded->reader);
  SparsitySpec sparsity{.predictor_threshold = kEveryNeuron};
  sparsity.fingerprint = *model::FingerprintOf(*loaded->reader, *header);
  GgufImage image = testing::SparsityImage(sparsity, loaded->config);
  image.RemoveKey("thermocline.sparsity.predictor.kinds");
  image.AddStrings("thermocline.sparsity.predictor.kinds", {"none", "relu"});
  image.RemoveTensor("blk.0.fc1.weight");
  image.RemoveTensor("blk.0.fc2.weight");
  const TempFile side(image.Bytes());
  ChainOptions options;
  options.ffn = {FfnMode::kPredicted, true};
  options.sparsity_path = side.path();
  StageChain chain(file.path(), options);
  ChainOptions dense;
  dense.ffn = {FfnMode::kDense, true};
  EXPECT_EQ(chain.Logits(SeqId{1}, kTokens, 64),
            StageChain(file.path(), dense).Logits(SeqId{1}, kTokens, 64));
  EXPECT_EQ(chain.last().FfnText(), "ffn predicted: exact 1 layer, predicted 1 layer");
}

TEST(FfnModes, PowerInfersOwnPredictorsRunAndAreCounted) {
  for (const char* arch : {"llama", "bamboo"}) {
    TinyModelSpec spec;
    spec.arch = arch;
    spec.dialect = model::GgufDialect::kPowerInfer;
    spec.predictor_threshold = kEveryNeuron;
    SparseModel files;  // the predictors are in the model's file
    files.model = std::make_unique<TempFile>(testing::TinyModel(spec));
    EXPECT_TRUE(LogitsOf(files, FfnMode::kPredicted) == LogitsOf(files, FfnMode::kDense)) << arch;
    StageChain dense(files.model->path(), OptionsOf(files, FfnMode::kDense));
    StageChain predicted(files.model->path(), OptionsOf(files, FfnMode::kPredicted));
    const uint64_t predictor_bytes = 2u * (32 * 64 + 128 * 32) * sizeof(float);
    const LoadReport& with = predicted.last().load_report();
    EXPECT_EQ(with.owned_bytes, dense.last().load_report().owned_bytes + predictor_bytes);
    EXPECT_EQ(with.read_bytes, with.owned_bytes);
  }
}

TEST(FfnModes, ExactPredictorsOfPowerInferFilesChangeNoToken) {
  for (const char* arch : {"llama", "bamboo"}) {
    TinyModelSpec spec;
    spec.arch = arch;
    spec.dialect = model::GgufDialect::kPowerInfer;
    spec.exact_predictor = true;
    SparseModel files;  // the predictors are in the model's file
    files.model = std::make_unique<TempFile>(testing::TinyModel(spec));
    const auto tokens = [&](FfnModes modes) {
      return StageChain(files.model->path(), OptionsOf(files, modes))
          .Generate(SeqId{1}, kTokens, 16);
    };
    const auto dense = tokens(FfnMode::kDense);
    EXPECT_EQ(tokens(FfnMode::kExact), dense) << arch;
    EXPECT_EQ(tokens(FfnMode::kPredicted), dense) << arch;
    EXPECT_EQ(tokens(All({FfnMode::kDense, FfnMode::kExact, FfnMode::kPredicted})), dense) << arch;
  }
}

TEST(FfnModes, AModeThatTheModelCannotRunIsRefused) {
  const TempFile file(testing::TinyModel({}));
  auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok());
  auto device = kernels::MakeReferenceDevice();
  StageOptions options;
  options.layers = {0, 2, true, true};
  for (const FfnMode mode : {FfnMode::kExact, FfnMode::kPredicted, FfnMode::kThresholded}) {
    options.ffn.modes = mode;
    const auto stage = Stage::Create(model->source(), options, *device, nullptr, IgnoreProgress);
    EXPECT_EQ(stage.status().code(), StatusCode::kInvalidArgument) << FfnModeName(mode);
  }
}

TEST(FfnModes, ASparsityFileOfAnotherModelIsRefused) {
  const SparseModel files = MakeSparseModel({}, {});
  TinyModelSpec other;
  other.seed = 2;
  const TempFile model(testing::TinyModel(other));
  auto loaded = OpenModel(model.path());
  ASSERT_TRUE(loaded.ok());
  const Status attached = AttachSparsityFile(files.sparsity->path(), &*loaded);
  EXPECT_THAT(attached.message(), HasSubstr("made for another model"));
  EXPECT_THAT(attached.message(), HasSubstr(files.sparsity->path()));
}

}  // namespace
}  // namespace thermocline::worker
