#include "placement/model_bytes.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using testing::MakeMixedModelParts;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

TEST(ModelBytes, RelaidRowsCountAsMemory) {
  const TinyModelParts quantised = MakeTinyModelParts({.n_layer = 2, .dtype = DType::kQ8_0});
  const ModelBytes plain =
      ModelBytes::Of(quantised.config, quantised.weights, model::FfnMode::kDense);
  const ModelBytes relaid =
      ModelBytes::Of(quantised.config, quantised.weights, model::FfnMode::kExact);
  const model::LayerRange all{0, 2, true, true};
  EXPECT_EQ(plain.Relay(all), 0u);
  const uint64_t n_elems = 2 * 64 * 128;
  EXPECT_EQ(relaid.Relay(all), n_elems * 2 - n_elems / 32 * 34);
  const TinyModelParts floats = MakeTinyModelParts({.n_layer = 2});
  EXPECT_EQ(ModelBytes::Of(floats.config, floats.weights, model::FfnMode::kExact).Relay(all), 0u);
}

// PowerInfer's files, and others that `thermocline convert --neuron-rows` wrote.
TEST(ModelBytes, RowsThatLieByNeuronAreNotRelaid) {
  const TinyModelParts rows = MakeTinyModelParts(
      {.dialect = model::GgufDialect::kPowerInfer, .n_layer = 2, .dtype = DType::kQ8_0});
  ASSERT_NE(rows.weights.Find(model::WeightRole::kFfnDownT, 0), nullptr);
  const model::LayerRange all{0, 2, true, true};
  const ModelBytes bytes = ModelBytes::Of(rows.config, rows.weights, model::FfnMode::kExact);
  EXPECT_EQ(bytes.Relay(all), 0u);
  EXPECT_EQ(bytes.Weights(all), rows.weights.BytesOf(all));
}

// Workers keep predictors of halves as Q8_0, 34 bytes for 32 numbers.
TEST(ModelBytes, PredictorsCountAsTheyAreHeld) {
  const TinyModelParts halves = MakeTinyModelParts(
      {.dialect = model::GgufDialect::kPowerInfer, .n_layer = 2, .dtype = DType::kF16});
  const model::LayerRange all{0, 2, true, true};
  const uint64_t in_file = halves.weights.PredictorBytesOf(all);
  ASSERT_EQ(halves.weights.Find(model::WeightRole::kPredictorFc1, 0)->dtype, DType::kF16);
  const ModelBytes bytes =
      ModelBytes::Of(halves.config, halves.weights, model::FfnMode::kPredicted);
  EXPECT_EQ(bytes.Predictors(all), in_file / 64 * 34);
  const int64_t n_ff = halves.config.n_ff;
  const std::vector<NeuronRange> first(2, {0, n_ff / 2}), second(2, {n_ff / 2, n_ff});
  const uint64_t again =  // fc1 is needed on both sides
      bytes.HelperPart(all, second).predictors - bytes.Neurons(0, second[0]).predictors * 2;
  EXPECT_EQ(bytes.LeadPart(all, first).predictors + bytes.HelperPart(all, second).predictors,
            bytes.Predictors(all) + again);
}

// 34 bytes for 32 floats, of gate, up and down; nothing of the rest.
TEST(ModelBytes, RowsIn8BitsSaveWhatTheyTakeLess) {
  const model::LayerRange all{0, 2, true, true};
  const std::vector<NeuronRange> first(2, {0, 32}), second(2, {32, 128});
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    const TinyModelParts model = MakeTinyModelParts({.n_layer = 2, .dtype = dtype});
    const uint64_t elem = dtype == DType::kF32 ? 4 : 2, n_elems = uint64_t{2} * 3 * 64 * 128;
    for (const model::FfnModes ffn : {model::FfnMode::kDense, model::FfnMode::kExact}) {
      const ModelBytes bytes = ModelBytes::Of(model.config, model.weights, ffn);
      EXPECT_EQ(bytes.WholePart(all).saved, 0u);
      const PartBytes whole = bytes.WholePart(all, NeuronRows::kFp8E4M3);
      EXPECT_EQ(whole.saved, n_elems * elem - n_elems / 32 * 34);
      EXPECT_EQ(whole.sum(), bytes.WholePart(all).sum() - whole.saved);
      EXPECT_EQ(bytes.LeadPart(all, first, NeuronRows::kFp8E5M2).saved, whole.saved / 4);
      EXPECT_EQ(bytes.HelperPart(all, second, NeuronRows::kFp8E5M2).saved, whole.saved / 4 * 3);
      EXPECT_EQ(bytes.LeadPart(all, first).saved, 0u);
      for (const auto form : {ModelBytes::Form::kShared, ModelBytes::Form::kAlone}) {
        EXPECT_EQ(bytes.HeldShares(NeuronRows::kAsIs, all, form), ModelBytes::Shares{});
        const ModelBytes::Shares shares = bytes.HeldShares(NeuronRows::kFp8E4M3, all, form);
        EXPECT_DOUBLE_EQ(shares.most, 34.0 / 32 / double(elem));
        EXPECT_EQ(shares.least, shares.most);
      }
    }
  }
}

// As rows by neuron ffn_down of Q8_0 is F16, which 8 bits halve; as the file has it it stays.
TEST(ModelBytes, RowsIn8BitsSaveOfQ8OnlyWhatIsRelaid) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = 2, .dtype = DType::kQ8_0});
  const ModelBytes dense = ModelBytes::Of(model.config, model.weights, model::FfnMode::kDense);
  const ModelBytes exact = ModelBytes::Of(model.config, model.weights, model::FfnMode::kExact);
  const model::LayerRange all{0, 2, true, true};
  constexpr auto kRows = NeuronRows::kFp8E4M3;
  EXPECT_EQ(dense.WholePart(all, kRows).sum(), model.weights.BytesOf(all));
  EXPECT_EQ(exact.WholePart(all, kRows).sum(), model.weights.BytesOf(all));
  EXPECT_DOUBLE_EQ(dense.HeldShares(kRows, all, ModelBytes::Form::kAlone).most, 1);
  const double shared = 3 * 34.0 / (2 * 34 + 64);
  EXPECT_DOUBLE_EQ(dense.HeldShares(kRows, all, ModelBytes::Form::kShared).most, shared);
  EXPECT_DOUBLE_EQ(exact.HeldShares(kRows, all, ModelBytes::Form::kAlone).most, shared);
}

// Of the layers asked for: others may have other types.
TEST(ModelBytes, SharesAreThoseOfTheLayersAskedFor) {
  const TinyModelParts model =
      MakeMixedModelParts({.n_layer = 4}, {{1, DType::kF16}, {2, DType::kQ4_0}});
  const ModelBytes bytes = ModelBytes::Of(model.config, model.weights, model::FfnMode::kDense);
  const auto shares = [&](int begin, int end) {
    const model::LayerRange layers{begin, end, begin == 0, end == 4};
    return bytes.HeldShares(NeuronRows::kFp8E4M3, layers, ModelBytes::Form::kAlone);
  };
  constexpr double kOfF32 = 34.0 / 128, kOfF16 = 34.0 / 64;
  EXPECT_EQ(shares(0, 1), (ModelBytes::Shares{kOfF32, kOfF32}));
  EXPECT_EQ(shares(1, 2), (ModelBytes::Shares{kOfF16, kOfF16}));
  EXPECT_EQ(shares(2, 3), (ModelBytes::Shares{1, 1}));
  EXPECT_EQ(shares(0, 2), (ModelBytes::Shares{kOfF32, kOfF16}));
  EXPECT_EQ(shares(1, 3), (ModelBytes::Shares{kOfF16, 1}));
  EXPECT_EQ(shares(0, 4), (ModelBytes::Shares{kOfF32, 1}));
}

TEST(ModelBytes, AgreesWithTheIndexOnEveryRange) {
  for (const bool tied : {false, true}) {
    for (const bool rope_freqs : {false, true}) {
      const TinyModelParts model =
          MakeTinyModelParts({.n_layer = 3, .tied = tied, .rope_freqs = rope_freqs});
      const ModelBytes bytes = ModelBytes::Of(model.config, model.weights, model::FfnMode::kDense);
      for (int begin = 0; begin < 3; ++begin) {
        for (int end = begin + 1; end <= 3; ++end) {
          const model::LayerRange layers{begin, end, begin == 0, end == 3};
          EXPECT_EQ(bytes.Weights(layers), model.weights.BytesOf(layers))
              << begin << "-" << end << " tied=" << tied << " rope_freqs=" << rope_freqs;
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline::placement
