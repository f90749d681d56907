#include "model/ffn_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace thermocline::model {
namespace {

using ::testing::HasSubstr;

ModelConfig ConfigOf(Activation activation) {
  ModelConfig config;
  config.arch_name = "llama";
  config.activation = activation;
  return config;
}

constexpr LayerSparsity kBoth{
    .predictor = PredictorKind::kRelu, .n_hidden = 8, .activation_threshold = 0.5f};

// Both layers with everything, measured.
Sparsity Measured(float predicted, float thresholded, float allowed) {
  Sparsity sparsity;
  sparsity.path = "m.predictor.gguf";
  sparsity.layers = {kBoth, kBoth};
  sparsity.guard = {predicted, thresholded, allowed};
  return sparsity;
}

Sparsity Nothing() {
  Sparsity sparsity;
  sparsity.layers.resize(2);
  return sparsity;
}

FfnModes Modes(std::initializer_list<FfnMode> modes) {
  FfnModes set;
  for (const FfnMode mode : modes) set.Add(mode);
  return set;
}

FfnModes Auto(const ModelConfig& config, const Sparsity& sparsity,
              std::optional<double> allowed = {}) {
  const auto modes = ResolveFfnModes(config, sparsity, {std::nullopt, allowed});
  EXPECT_TRUE(modes.ok()) << modes.status();
  return *modes;
}

using enum FfnMode;

TEST(FfnPolicy, ModesThatCannotBeHadTellTheReasonAndTheCure) {
  const ModelConfig silu = ConfigOf(Activation::kSilu);
  const ModelConfig relu = ConfigOf(Activation::kRelu);
  EXPECT_THAT(CheckFfnMode(silu, Nothing(), kExact).message(),
              HasSubstr("this llama model has silu: use --ffn dense"));
  EXPECT_THAT(CheckFfnMode(relu, Nothing(), kPredicted).message(),
              HasSubstr("has no predictor: make one by thermocline profile --train-predictor, or "
                        "use --ffn exact"));
  EXPECT_THAT(CheckFfnMode(silu, Nothing(), kPredicted).message(), HasSubstr("use --ffn dense"));
  EXPECT_THAT(CheckFfnMode(silu, Nothing(), kThresholded).message(),
              HasSubstr("--threshold-target"));
  Sparsity half = Nothing();
  half.path = "m.predictor.gguf";
  half.layers[1].activation_threshold = 0;
  EXPECT_TRUE(CheckFfnMode(silu, half, kThresholded).ok());
  EXPECT_THAT(CheckFfnMode(silu, half, kPredicted).message(),
              HasSubstr("no predictor in m.predictor.gguf"));
}

TEST(FfnPolicy, AutoTakesWhatChangesNothingAndWhatIsAllowed) {
  const ModelConfig silu = ConfigOf(Activation::kSilu);
  const ModelConfig relu = ConfigOf(Activation::kRelu);
  EXPECT_EQ(Auto(silu, Nothing()), Modes({kDense}));
  EXPECT_EQ(Auto(relu, Nothing()), Modes({kDense, kExact}));
  EXPECT_EQ(Auto(silu, Measured(0.001f, 0.02f, 0.01f)), Modes({kDense, kPredicted}));
  EXPECT_EQ(Auto(relu, Measured(0.02f, 0.01f, 0.01f)), Modes({kDense, kExact, kThresholded}));
  EXPECT_EQ(Auto(silu, Measured(0.02f, 0.03f, 0.01f), 0.025), Modes({kDense, kPredicted}));
  EXPECT_EQ(Auto(silu, Measured(0.001f, 0.02f, 0.01f), 0.0), Modes({kDense}));
}

TEST(FfnPolicy, AForcedModeBeyondTheAllowedLossIsRefused) {
  const ModelConfig silu = ConfigOf(Activation::kSilu);
  const Sparsity lossy = Measured(0.0625f, 0.001f, 0.01f);
  const Status refused = ResolveFfnModes(silu, lossy, {kPredicted, {}}).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("lose more perplexity than allowed: m.predictor.gguf "
                                           "loss=0.0625 allowed=0.01"));
  EXPECT_THAT(refused.message(), HasSubstr("--allow-loss 0.0625 accepts it"));
  EXPECT_EQ(*ResolveFfnModes(silu, lossy, {kPredicted, 0.0625}), Modes({kPredicted}));
  EXPECT_EQ(*ResolveFfnModes(silu, lossy, {kThresholded, {}}), Modes({kThresholded}));
}

TEST(FfnPolicy, WhatNobodyMeasuredCountsAsInfiniteLoss) {
  const ModelConfig silu = ConfigOf(Activation::kSilu);
  Sparsity unmeasured = Measured(0, 0, 0);
  unmeasured.guard = {};
  EXPECT_EQ(Auto(silu, unmeasured), Modes({kDense}));
  EXPECT_THAT(ResolveFfnModes(silu, unmeasured, {kPredicted, 0.5}).status().message(),
              HasSubstr("has no measured loss"));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(*ResolveFfnModes(silu, unmeasured, {kPredicted, kInfinity}), Modes({kPredicted}));
}

TEST(FfnPolicy, PredictorsThatArePartOfTheModelAreAccepted) {
  const ModelConfig relu = ConfigOf(Activation::kRelu);
  Sparsity own = Nothing();
  own.is_part_of_model = true;
  own.layers[0] = {.predictor = PredictorKind::kRelu, .n_hidden = 8};
  EXPECT_EQ(Auto(relu, own), Modes({kDense, kExact, kPredicted}));
  EXPECT_THAT(UnmeasuredNote(own, kPredicted), HasSubstr("profile --guard"));
  EXPECT_EQ(UnmeasuredNote(own, Modes({kDense, kExact})), "");
}

TEST(FfnPolicy, PredictorsOfTheModelAreJudgedOnceTheyAreMeasured) {
  const ModelConfig relu = ConfigOf(Activation::kRelu);
  Sparsity own = Measured(0.0625f, 0, 0.01f);
  own.guard.thresholded.reset();
  own.is_part_of_model = true;
  EXPECT_EQ(Auto(relu, own), Modes({kDense, kExact}));
  EXPECT_EQ(Auto(relu, own, 0.07), Modes({kDense, kExact, kPredicted}));
  EXPECT_THAT(ResolveFfnModes(relu, own, {kPredicted, {}}).status().message(),
              HasSubstr("m.predictor.gguf loss=0.0625 allowed=0.01"));
  EXPECT_EQ(UnmeasuredNote(own, kPredicted), "");
  // Thresholds never came with a model.
  EXPECT_THAT(ResolveFfnModes(relu, own, {kThresholded, {}}).status().message(),
              HasSubstr("has no measured loss"));
  own.guard.predicted = 0.005f;
  EXPECT_EQ(Auto(relu, own), Modes({kDense, kExact, kPredicted}));
}

TEST(FfnPolicy, LayersWithoutTheirPartFallBack) {
  const ModelConfig silu = ConfigOf(Activation::kSilu);
  const ModelConfig relu = ConfigOf(Activation::kRelu);
  for (const FfnMode mode : {kPredicted, kThresholded}) {
    EXPECT_EQ(LayerFfnMode(relu, {}, mode), kExact);
    EXPECT_EQ(LayerFfnMode(silu, {}, mode), kDense);
    EXPECT_EQ(LayerFfnMode(silu, kBoth, mode), mode);
  }
  EXPECT_EQ(LayerFfnMode(relu, {}, kDense), kDense);
}

TEST(FfnModes, NamesReadBack) {
  for (const FfnMode mode : kFfnModes) EXPECT_EQ(*ParseFfnMode(FfnModeName(mode)), mode);
  EXPECT_EQ(*ParseFfnWish("exact", {})->forced, kExact);
  EXPECT_FALSE(ParseFfnWish("auto", {})->forced.has_value());
  EXPECT_EQ(ParseFfnWish("sparse", {}).status().message(),
            "unknown --ffn \"sparse\"; one of dense exact predicted thresholded auto");
  EXPECT_THAT(ParseFfnWish("auto", -0.5).status().message(), HasSubstr("loss=-0.5"));
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(ParseFfnWish("auto", kNan).ok());
}

TEST(FfnModes, SetsTellTheirMembers) {
  EXPECT_EQ(FfnModesText(kDense), "dense");
  EXPECT_EQ(FfnModesText(Modes({kExact, kDense})), "dense or exact");
  EXPECT_EQ(FfnModesText(Modes({kExact, kDense, kPredicted})), "dense, exact or predicted");
  EXPECT_EQ(FfnWishText({}, Modes({kExact, kDense})), "auto (dense or exact)");
  EXPECT_EQ(FfnWishText({kPredicted, {}}, kPredicted), "predicted");
  EXPECT_FALSE(FfnModes(kDense).needs_neuron_rows());
  EXPECT_TRUE(Modes({kDense, kExact}).needs_neuron_rows());
  EXPECT_EQ(*FfnModes::FromBits(Modes({kDense, kExact}).bits()), Modes({kDense, kExact}));
  EXPECT_FALSE(FfnModes::FromBits(0).ok());
  EXPECT_FALSE(FfnModes::FromBits(1u << 4).ok());
}

}  // namespace
}  // namespace thermocline::model
