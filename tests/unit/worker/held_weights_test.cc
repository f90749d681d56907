#include "worker/held_weights.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/tiny_model_parts.h"
#include "worker/assignment.h"

namespace thermocline::worker {
namespace {

using model::ByteRange;
using model::NeuronRange;
using model::WeightRole;

constexpr int kLayers = 2;
constexpr int64_t kNeurons = 128;
constexpr int kHeads = 2;
constexpr model::LayerRange kAll = {0, kLayers, true, true};

FfnPlan Share(const NeuronRange& neurons, bool is_helper) {
  return {.neurons = std::vector<NeuronRange>(kLayers, neurons), .is_helper = is_helper};
}

uint64_t Bytes(const std::vector<ByteRange>& ranges) {
  uint64_t n = 0;
  for (const ByteRange& range : ranges) n += range.end - range.begin;
  return n;
}

class HeldWeights : public ::testing::Test {
 protected:
  uint64_t Held(const FfnPlan& ffn) const {
    return Bytes(HeldRanges(model_.weights, model_.weights.KeysOf(kAll), kAll, ffn, kHeads));
  }
  uint64_t Size(WeightRole role) const { return model_.weights.Find(role, 0)->size_bytes; }

  const testing::TinyModelParts model_ =
      testing::MakeTinyModelParts({.n_layer = kLayers, .n_ff = static_cast<int>(kNeurons)});
};

TEST_F(HeldWeights, AStageAloneHoldsEverything) {
  EXPECT_EQ(Held({}), model_.weights.BytesOf(kAll));
  EXPECT_EQ(HeldRanges(model_.weights, model_.weights.KeysOf(kAll), kAll, {}, kHeads),
            model_.weights.RangesOf(kAll));
}

TEST_F(HeldWeights, RowsOfGateAndUpAreSharedAndDownIsReadByAll) {
  const FfnPlan lead = Share({0, 32}, false), helper = Share({32, 128}, true);
  const uint64_t rows = Size(WeightRole::kFfnGate) + Size(WeightRole::kFfnUp);
  const uint64_t down = Size(WeightRole::kFfnDown), norm = Size(WeightRole::kFfnNorm);
  EXPECT_EQ(Held(lead), model_.weights.BytesOf(kAll) - kLayers * rows * 3 / 4);
  EXPECT_EQ(Held(helper), kLayers * (rows * 3 / 4 + down + norm));
}

TEST_F(HeldWeights, AHelperWithoutNeuronsOfALayerHoldsNothingOfIt) {
  FfnPlan helper = Share({0, 128}, true);
  helper.neurons[1] = {};
  EXPECT_TRUE(IsHeld({0, WeightRole::kFfnNorm}, kAll, helper));
  EXPECT_FALSE(IsHeld({1, WeightRole::kFfnNorm}, kAll, helper));
  EXPECT_FALSE(IsHeld({1, WeightRole::kFfnUp}, kAll, helper));
  EXPECT_FALSE(IsHeld({0, WeightRole::kAttnQ}, kAll, helper));
  EXPECT_FALSE(IsHeld({0, WeightRole::kFfnDownBias}, kAll, helper));
  EXPECT_FALSE(IsHeld({model::kNoLayer, WeightRole::kTokenEmbd}, kAll, helper));
}

TEST(CheckNeurons, APlanWhoseListsDisagreeIsRefused) {
  const model::ModelConfig config{.n_layer = 4, .n_ff = 64};
  placement::StagePlan stage{.lead = {1},
                             .layers = {0, 2},
                             .neurons = {{0, 32}, {0, 32}},
                             .helpers = {{.worker = {2}, .neurons = {{32, 64}, {32, 64}}}}};
  EXPECT_TRUE(CheckNeurons(stage, config).ok());
  stage.helpers[0].neurons.pop_back();
  EXPECT_EQ(CheckNeurons(stage, config).code(), StatusCode::kDataLoss);
  stage.helpers[0].neurons.push_back({32, 65});
  EXPECT_EQ(CheckNeurons(stage, config).code(), StatusCode::kDataLoss);
  stage.helpers[0].neurons.back() = {32, 64};
  stage.layers = {3, 5};
  EXPECT_EQ(CheckNeurons(stage, config).code(), StatusCode::kDataLoss);
}

}  // namespace
}  // namespace thermocline::worker
