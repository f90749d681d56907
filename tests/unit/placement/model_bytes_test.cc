#include "placement/model_bytes.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

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
