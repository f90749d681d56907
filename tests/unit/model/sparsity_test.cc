#include "model/sparsity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>

#include "tests/support/sparsity_image.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::model {
namespace {

using testing::GgufImage;
using ::testing::HasSubstr;
using testing::SparsityImage;
using testing::SparsitySpec;
using testing::TinyModelSpec;

const std::string kFingerprint(32, '0');
const std::string kKinds = "thermocline.sparsity.predictor.kinds";
const std::string kThresholds = "thermocline.sparsity.predictor.thresholds";

ModelConfig TinyConfig() { return testing::MakeTinyModelParts({}).config; }

Result<SparsityFile> Read(const GgufImage& image) {
  const auto bytes = image.Bytes();
  return ReadSparsityFile(ReadFromMemory(bytes, "side"), TinyConfig(), kFingerprint);
}

TEST(SparsityFile, TellsEveryLayer) {
  SparsitySpec spec;
  spec.kind = "linear";
  spec.input = "ffn_norm";
  spec.predictor_threshold = 0.5f;
  spec.activation_threshold = 0.25f;
  const auto file = Read(SparsityImage(spec, TinyConfig()));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->sparsity.layers.size(), 2u);
  const LayerSparsity wanted{PredictorKind::kLinear, PredictorInput::kFfnNorm, 16, 0.5f, 0.25f};
  EXPECT_EQ(file->sparsity.layers[0], wanted);
  EXPECT_EQ(file->sparsity.layers[1], wanted);
  EXPECT_EQ(file->predictors.size(), 4u);
  EXPECT_TRUE(file->predictors.contains({1, WeightRole::kPredictorFc2}));
  EXPECT_EQ(file->sparsity.path, "side");
  EXPECT_FALSE(file->sparsity.guard.predicted.has_value());
}

TEST(SparsityFile, TellsWhatWasMeasured) {
  GgufImage image = SparsityImage({}, TinyConfig());
  image.AddF32("thermocline.sparsity.guard.predicted.ppl_loss", -0.5f)
      .AddF32("thermocline.sparsity.guard.allowed_loss", 0.25f)
      .AddString("thermocline.sparsity.made_from", "for people");
  const auto file = Read(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->sparsity.guard.predicted, -0.5f);
  EXPECT_EQ(file->sparsity.guard.allowed, 0.25f);
  EXPECT_FALSE(file->sparsity.guard.thresholded.has_value());
}

TEST(SparsityFile, PredictorsOrThresholdsMayBeMissing) {
  SparsitySpec spec;
  spec.kind = "";
  spec.activation_threshold = 0.25f;
  const auto thresholds = Read(SparsityImage(spec, TinyConfig()));
  ASSERT_TRUE(thresholds.ok()) << thresholds.status();
  EXPECT_TRUE(thresholds->sparsity.has_thresholds());
  EXPECT_FALSE(thresholds->sparsity.has_predictors());
  EXPECT_TRUE(thresholds->predictors.empty());
  const auto predictors = Read(SparsityImage({}, TinyConfig()));
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  EXPECT_FALSE(predictors->sparsity.has_thresholds());
}

TEST(SparsityFile, MayHoldOnlyWhatWasMeasured) {
  SparsitySpec spec;
  spec.kind = "";
  GgufImage image = SparsityImage(spec, TinyConfig());
  image.AddF32("thermocline.sparsity.guard.predicted.ppl_loss", 0.25f);
  const auto file = Read(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(file->has_parts());
  EXPECT_EQ(file->sparsity.guard.predicted, 0.25f);
  image.Key("thermocline.sparsity.guard.predicted.ppl_loss").key =
      "thermocline.sparsity.guard.thresholded.ppl_loss";
  EXPECT_THAT(Read(image).status().message(), HasSubstr("nor a measured loss"));
}

TEST(SparsityFile, ALayerMayBeLeftOut) {
  GgufImage image = SparsityImage({}, TinyConfig());
  image.RemoveKey(kKinds);
  image.AddStrings(kKinds, {"none", "relu"});
  image.RemoveTensor("blk.0.fc1.weight");
  image.RemoveTensor("blk.0.fc2.weight");
  const auto file = Read(image);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(file->sparsity.layers[0].has_predictor());
  EXPECT_TRUE(file->sparsity.layers[1].has_predictor());
}

TEST(SparsityFile, MinusInfinityMeansEveryNeuron) {
  SparsitySpec spec;
  spec.predictor_threshold = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(Read(SparsityImage(spec, TinyConfig())).ok());
}

struct BadFile {
  const char* what;
  std::function<void(GgufImage&)> spoil;
  const char* message;
};

std::vector<BadFile> BadFiles() {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const auto remove = [](const char* key) {
    return [=](GgufImage& f) { f.RemoveKey(std::string("thermocline.sparsity.") + key); };
  };
  const auto text = [](const char* key, const char* value) {
    return [=](GgufImage& f) { f.Key(key).payload = testing::PackedString(value); };
  };
  return {
      {"a model", text("general.architecture", "llama"), "not a sparsity file: general.arch"},
      {"version",
       [](GgufImage& f) {
         f.Key("thermocline.sparsity.version").payload = testing::Packed(uint32_t{2});
       },
       "version=2 supported=1"},
      {"another model", text("thermocline.sparsity.model_fingerprint", "abc"),
       "made for another model: model_fingerprint=abc this_model=000"},
      {"no fingerprint", remove("model_fingerprint"), "model_fingerprint"},
      {"nothing in it", remove("predictor.kinds"), "neither predictors nor thresholds"},
      {"no input", remove("predictor.input"), "predictor.input"},
      {"input", text("thermocline.sparsity.predictor.input", "logits"),
       "\"logits\"; one of residual ffn_norm"},
      {"no thresholds", remove("predictor.thresholds"), "predictor.thresholds"},
      {"kind",
       [](GgufImage& f) {
         f.RemoveKey(kKinds);
         f.AddStrings(kKinds, {"relu", "oracle"});
       },
       "\"oracle\"; one of relu linear none"},
      {"too few kinds",
       [](GgufImage& f) {
         f.RemoveKey(kKinds);
         f.AddStrings(kKinds, {"relu"});
       },
       "predictor.kinds entries=1 n_layer=2"},
      {"too many thresholds",
       [](GgufImage& f) {
         f.RemoveKey(kThresholds);
         f.AddF32s(kThresholds, {0, 0, 0});
       },
       "predictor.thresholds entries=3 n_layer=2"},
      {"NaN",
       [=](GgufImage& f) {
         f.RemoveKey(kThresholds);
         f.AddF32s(kThresholds, {0, kNan});
       },
       "threshold is NaN: thermocline.sparsity.predictor.thresholds layer=1"},
      {"infinite activation",
       [](GgufImage& f) {
         f.AddF32s("thermocline.sparsity.activation.thresholds",
                   {0, std::numeric_limits<float>::infinity()});
       },
       "activation.thresholds layer=1 value=inf"},
      {"NaN loss", [=](GgufImage& f) { f.AddF32("thermocline.sparsity.guard.allowed_loss", kNan); },
       "loss is NaN: thermocline.sparsity.guard.allowed_loss"},
      {"missing tensor", [](GgufImage& f) { f.RemoveTensor("blk.1.fc1.weight"); },
       "tensor is missing: blk.1.fc1.weight"},
      {"superfluous tensor", [](GgufImage& f) { f.AddZeros("blk.2.fc1.weight", DType::kF32, {4}); },
       "tensor is not part of a sparsity file, or its layer has the kind none: blk.2.fc1.weight"},
      {"wrong width",
       [](GgufImage& f) {
         f.RemoveTensor("blk.0.fc1.weight");
         f.AddZeros("blk.0.fc1.weight", DType::kF32, {16, 63});
       },
       "blk.0.fc1.weight shape=[16, 63] wanted=[n_predictor, n_embd=64]"},
      {"wrong neurons",
       [](GgufImage& f) {
         f.RemoveTensor("blk.0.fc2.weight");
         f.AddZeros("blk.0.fc2.weight", DType::kF32, {127, 16});
       },
       "blk.0.fc2.weight shape=[127, 16]"},
      {"halves",
       [](GgufImage& f) {
         f.RemoveTensor("blk.0.fc2.weight");
         f.AddZeros("blk.0.fc2.weight", DType::kF32, {128, 15});
       },
       "predictor halves do not fit: blk.0.fc1.weight and blk.0.fc2.weight fc1=[16, 64] "
       "fc2=[128, 15]"},
      {"integers",
       [](GgufImage& f) {
         f.RemoveTensor("blk.0.fc2.weight");
         f.AddZeros("blk.0.fc2.weight", DType::kI32, {128, 16});
       },
       "weights cannot be I32: blk.0.fc2.weight"},
  };
}

TEST(SparsityFile, WhatIsWrongIsNamed) {
  for (const BadFile& bad : BadFiles()) {
    GgufImage image = SparsityImage({}, TinyConfig());
    bad.spoil(image);
    const auto file = Read(image);
    EXPECT_EQ(file.status().code(), StatusCode::kInvalidArgument) << bad.what;
    EXPECT_THAT(file.status().message(), HasSubstr(bad.message)) << bad.what;
    EXPECT_THAT(file.status().message(), HasSubstr("side")) << bad.what;
  }
}

TEST(SparsityOfModel, PowerInfersPredictorsAreItsOwn) {
  TinyModelSpec spec;
  spec.dialect = GgufDialect::kPowerInfer;
  spec.predictor_threshold = 0.25f;
  const auto bytes = testing::TinyModel(spec);
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "tiny"));
  const auto config = ModelConfig::FromGguf(*file);
  const auto weights = WeightIndex::Build(*config, *file);
  const auto sparsity = SparsityOfModel(*file, *config, *weights);
  ASSERT_TRUE(sparsity.ok()) << sparsity.status();
  EXPECT_TRUE(sparsity->is_part_of_model);
  const LayerSparsity wanted{PredictorKind::kRelu, PredictorInput::kResidual, 32, 0.25f, -1};
  EXPECT_EQ(sparsity->layers[1], wanted);
}

TEST(SparsityOfModel, AThresholdThatIsNoNumberIsNamed) {
  TinyModelSpec spec;
  spec.dialect = GgufDialect::kPowerInfer;
  spec.predictor_threshold = std::numeric_limits<float>::quiet_NaN();
  const auto bytes = testing::TinyModel(spec);
  const auto file = GgufFile::Parse(*ReadFromMemory(bytes, "tiny"));
  const auto config = ModelConfig::FromGguf(*file);
  const auto weights = WeightIndex::Build(*config, *file);
  EXPECT_THAT(SparsityOfModel(*file, *config, *weights).status().message(),
              HasSubstr("NaN: powerinfer.sparse_threshold"));
}

// A model of PowerInfer's with what `spec` gives it; fc1's rows tell whose predictors they are.
struct Attached {
  Sparsity sparsity;
  WeightIndex weights;

  explicit Attached(const SparsitySpec& spec) {
    TinyModelSpec tiny;
    tiny.dialect = GgufDialect::kPowerInfer;
    const auto bytes = testing::TinyModel(tiny);
    const auto model = GgufFile::Parse(*ReadFromMemory(bytes, "tiny"));
    const auto config = ModelConfig::FromGguf(*model);
    weights = *WeightIndex::Build(*config, *model);
    sparsity = *SparsityOfModel(*model, *config, weights);
    GgufImage image = SparsityImage(spec, *config);
    image.AddF32("thermocline.sparsity.guard.predicted.ppl_loss", 0.25f);
    const auto side = image.Bytes();
    const auto file = ReadSparsityFile(ReadFromMemory(side, "side"), *config, kFingerprint);
    EXPECT_TRUE(file.ok()) << file.status();
    AttachSparsity(*file, &weights, &sparsity);
  }
  int64_t n_hidden() const { return weights.Find(WeightRole::kPredictorFc1, 1)->n_rows(); }
};

TEST(AttachSparsity, WithoutPredictorsInTheFileTheModelKeepsItsOwn) {
  SparsitySpec spec;
  spec.kind = "";
  spec.activation_threshold = 0.5f;
  const Attached attached(spec);
  EXPECT_TRUE(attached.sparsity.is_part_of_model);
  const LayerSparsity wanted{PredictorKind::kRelu, PredictorInput::kResidual, 32, 0, 0.5f};
  EXPECT_EQ(attached.sparsity.layers[1], wanted);
  EXPECT_EQ(attached.sparsity.guard.predicted, 0.25f);
  EXPECT_EQ(attached.sparsity.path, "side");
  EXPECT_EQ(attached.n_hidden(), 32);
  EXPECT_FALSE(attached.weights.has_attached_predictors());
}

TEST(AttachSparsity, PredictorsOfTheFileReplaceTheModels) {
  const Attached attached({.kind = "relu", .input = "ffn_norm", .n_hidden = 16});
  EXPECT_FALSE(attached.sparsity.is_part_of_model);
  EXPECT_EQ(attached.sparsity.layers[1].input, PredictorInput::kFfnNorm);
  EXPECT_EQ(attached.n_hidden(), 16);
  EXPECT_TRUE(attached.weights.has_attached_predictors());
}

TEST(FindSparsityFile, PrefersWhatIsGivenAndLooksBesideTheModel) {
  const testing::TempFile model(std::vector<std::byte>(1));
  const std::string gguf = model.path() + ".gguf";
  const std::string beside = model.path() + ".predictor.gguf";
  EXPECT_EQ(FindSparsityFile("", gguf), "");
  EXPECT_EQ(FindSparsityFile("given", gguf), "given");
  std::ofstream(beside) << "x";
  EXPECT_EQ(FindSparsityFile("", gguf), beside);
  EXPECT_EQ(FindSparsityFile("given", gguf), "given");
  std::filesystem::remove(beside);
}

}  // namespace
}  // namespace thermocline::model
