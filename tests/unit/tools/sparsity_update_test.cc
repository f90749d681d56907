#include "tools/profile/sparsity_update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/sparsity_image.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::tools {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SparsityImage;
using testing::SparsitySpec;
using testing::TempFile;

const std::string kFingerprint(32, '0');

model::ModelConfig TinyConfig() { return testing::MakeTinyModelParts({}).config; }

model::SparsityFile Reopen(const std::string& path) {
  auto file = model::OpenSparsityFile(path, TinyConfig(), kFingerprint);
  EXPECT_TRUE(file.ok()) << file.status();
  return std::move(file).value();
}

// Predictors that read the residual and thresholds, both measured.
std::vector<std::byte> Everything() {
  SparsitySpec spec;
  spec.predictor_threshold = 0.5f;
  spec.activation_threshold = 0.25f;
  testing::GgufImage image = SparsityImage(spec, TinyConfig());
  image.AddF32("thermocline.sparsity.guard.predicted.ppl_loss", 0.125f)
      .AddF32("thermocline.sparsity.guard.thresholded.ppl_loss", 0.0625f)
      .AddF32("thermocline.sparsity.guard.allowed_loss", 0.5f);
  return image.Bytes();
}

Result<SparsityUpdate> Open(const TempFile& file, SparsityParts made, bool replace = false) {
  return SparsityUpdate::Open(file.path(), TinyConfig(), kFingerprint, made, replace);
}

std::vector<std::byte> BytesOf(const model::SparsityFile& file, const model::WeightKey& key) {
  const model::TensorInfo& tensor = file.predictors.at(key);
  std::vector<std::byte> bytes(tensor.size_bytes);
  EXPECT_TRUE(file.reader->Read(tensor.offset_bytes, bytes).ok());
  return bytes;
}

TEST(SparsityUpdate, NewThresholdsLeavePredictorsWithTheirLoss) {
  const auto bytes = Everything();
  const TempFile file(bytes), before(bytes);
  auto update = Open(file, {.thresholds = true});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->kept_text(), "predictors");
  EXPECT_TRUE(update->thresholds().empty());
  EXPECT_EQ(update->allowed_loss(), 0.5f);
  update->SetThresholds({1, 2});
  ASSERT_TRUE(update->Write().ok());
  const auto old = Reopen(before.path()), now = Reopen(file.path());
  for (const auto& [key, tensor] : old.predictors) EXPECT_EQ(BytesOf(now, key), BytesOf(old, key));
  EXPECT_EQ(now.predictors.size(), old.predictors.size());
  model::LayerSparsity wanted = old.sparsity.layers[1];
  wanted.activation_threshold = 2;
  EXPECT_EQ(now.sparsity.layers[1], wanted);
  EXPECT_EQ(now.sparsity.guard.predicted, 0.125f);
  EXPECT_FALSE(now.sparsity.guard.thresholded.has_value());
  EXPECT_EQ(now.sparsity.guard.allowed, 0.5f);
}

TEST(SparsityUpdate, NewPredictorsLeaveThresholdsWithTheirLoss) {
  const TempFile file(Everything());
  auto update = Open(file, {.predictors = true});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->kept_text(), "thresholds");
  EXPECT_THAT(update->thresholds(), ElementsAre(0.25f, 0.25f));
  StoredPredictor made;
  made.kind = model::PredictorKind::kLinear;
  made.predictor.fc1 = Matrix(32, TinyConfig().n_embd);
  made.predictor.fc2 = Matrix(TinyConfig().n_ff, 32);
  update->SetPredictors({made, {}});
  ASSERT_TRUE(update->Write().ok());
  const auto now = Reopen(file.path());
  EXPECT_EQ(now.sparsity.layers[0].predictor, model::PredictorKind::kLinear);
  EXPECT_EQ(now.sparsity.layers[0].input, model::PredictorInput::kFfnNorm);
  EXPECT_FALSE(now.sparsity.layers[1].has_predictor());
  EXPECT_EQ(now.sparsity.layers[1].activation_threshold, 0.25f);
  EXPECT_FALSE(now.sparsity.guard.predicted.has_value());
  EXPECT_EQ(now.sparsity.guard.thresholded, 0.0625f);
}

TEST(SparsityUpdate, WhatIsMeasuredAgainReplacesTheOldLoss) {
  const TempFile file(Everything());
  auto update = Open(file, {});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->kept_text(), "predictors and thresholds");
  update->RecordLosses({{{"dense", 10, 0}, {"predicted", 10.1, 0.01}}, 512, 0.02});
  ASSERT_TRUE(update->Write().ok());
  const auto now = Reopen(file.path());
  EXPECT_EQ(now.sparsity.guard.predicted, 0.01f);
  EXPECT_EQ(now.sparsity.guard.thresholded, 0.0625f);
  EXPECT_EQ(now.sparsity.guard.allowed, 0.02f);
}

TEST(SparsityUpdate, ALossMayBeAllThereIs) {
  const TempFile file({});
  auto fresh = SparsityUpdate::Open(file.path() + ".none", TinyConfig(), kFingerprint, {}, false);
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_EQ(fresh->kept_text(), "");
  EXPECT_FALSE(fresh->Write().ok());
  auto update = Open(file, {}, true);
  ASSERT_TRUE(update.ok()) << update.status();
  update->RecordLosses({{{"predicted", 10.1, 0.01}}, 512, 0.02});
  ASSERT_TRUE(update->Write().ok());
  EXPECT_EQ(Reopen(file.path()).sparsity.guard.predicted, 0.01f);
  EXPECT_EQ(Open(file, {.thresholds = true})->kept_text(), "measured loss");
}

TEST(SparsityUpdate, ReplaceKeepsNothingEvenOfAnotherModelsFile) {
  SparsitySpec spec;
  spec.fingerprint = std::string(32, '1');
  const TempFile file(SparsityImage(spec, TinyConfig()).Bytes());
  EXPECT_THAT(Open(file, {.predictors = true}).status().message(),
              HasSubstr("made for another model"));
  EXPECT_THAT(Open(file, {.predictors = true}).status().message(), HasSubstr("; --replace"));
  EXPECT_EQ(Open(file, {.predictors = true}, true)->kept_text(), "");
}

}  // namespace
}  // namespace thermocline::tools
