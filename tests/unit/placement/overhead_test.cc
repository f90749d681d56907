#include "placement/overhead.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using model::FfnMode;
using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 4;
constexpr int kRows = 256;

// Layers [begin, end) of the model, the neurons of each split among the lead and `n_helpers`.
StagePlan RandomStage(const model::ModelConfig& config, int n_helpers, std::mt19937* random) {
  const int begin = static_cast<int>((*random)() % kLayers);
  const int end =
      begin + 1 + static_cast<int>((*random)() % static_cast<unsigned>(kLayers - begin));
  StagePlan stage{.layers = {begin, end, begin == 0, end == kLayers}};
  stage.helpers.resize(static_cast<size_t>(n_helpers));
  for (int layer = begin; layer < end && n_helpers > 0; ++layer) {
    int64_t from = 1 + static_cast<int64_t>((*random)() % static_cast<unsigned>(config.n_ff - 1));
    stage.neurons.push_back({0, from});
    for (int h = 0; h < n_helpers; ++h) {
      const int64_t left = config.n_ff - from;
      const int64_t n = h + 1 == n_helpers || left == 0
                            ? left
                            : static_cast<int64_t>((*random)() % static_cast<unsigned>(left));
      stage.helpers[static_cast<size_t>(h)].neurons.push_back({from, from + n});
      from += n;
    }
  }
  return stage;
}

TEST(OverheadModel, NoStageNeedsMoreThanTheMostOfItsShape) {
  testing::TinyModelSpec specs[] = {{.n_layer = kLayers, .activation = "relu"},
                                    {.arch = "arcee", .n_layer = kLayers, .n_ff = 64},
                                    {.n_layer = kLayers, .dtype = DType::kQ8_0}};
  specs[1].n_embd = 64;  // neurons as many as x has columns
  for (const auto& spec : specs) {
    const TinyModelParts model = MakeTinyModelParts(spec);
    model::FfnModes ffn = FfnMode::kDense;
    if (model.config.relu_family()) ffn.Add(FfnMode::kExact);
    const OverheadModel overhead(model.config, model.weights, ffn, kRows, 0);
    for (unsigned seed = 0; seed < 100; ++seed) {
      std::mt19937 random(seed);
      const int n_helpers = static_cast<int>(seed % 4);
      const StagePlan stage = RandomStage(model.config, n_helpers, &random);
      const int n_layers = stage.layers.end - stage.layers.begin;
      for (const Holder holder : {Holder::kProcess, Holder::kCard}) {
        EXPECT_LE(overhead.OfLead(stage, holder),
                  overhead.MostOfLead(stage.layers, n_helpers, holder))
            << "seed " << seed << " " << spec.arch;
        for (const HelperPlan& helper : stage.helpers) {
          EXPECT_LE(overhead.OfHelper(stage, helper, holder),
                    overhead.MostOfHelper(n_layers, holder))
              << "seed " << seed << " " << spec.arch;
        }
      }
    }
  }
}

TEST(OverheadModel, AListOfNeuronsServesAllRows) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = kLayers, .activation = "relu"});
  const model::LayerRange all = {0, kLayers, true, true};
  const auto per_row = [&](FfnMode mode) {
    const auto of = [&](int rows) {
      return OverheadModel(model.config, model.weights, mode, rows, 0)
          .MostOfLead(all, 0, Holder::kProcess);
    };
    return (of(2 * kRows) - of(kRows)) / kRows;
  };
  EXPECT_GE(per_row(FfnMode::kDense), per_row(FfnMode::kExact));
}

TEST(OverheadModel, WhoHasTheHeadHoldsLogitsAndWhoHasLinksHoldsFrames) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = kLayers});
  const OverheadModel overhead(model.config, model.weights, FfnMode::kDense, kRows, 0);
  const uint64_t frame = uint64_t{kRows} * static_cast<uint64_t>(model.config.n_embd) * 4;
  const uint64_t table = 8 * static_cast<uint64_t>(model.config.n_ff);
  const uint64_t inner = overhead.MostOfLead({1, 2, false, false}, 0, Holder::kProcess);
  EXPECT_EQ(overhead.MostOfLead({0, 1, true, false}, 0, Holder::kProcess), inner - 2 * frame);
  EXPECT_EQ(overhead.MostOfLead({1, 3, false, false}, 0, Holder::kProcess), inner + table);
  EXPECT_GE(overhead.MostOfLead({1, 2, false, true}, 0, Holder::kProcess) + frame,
            inner + kLogitsBlockRows * 4 * static_cast<uint64_t>(model.config.n_vocab));
}

TEST(OverheadModel, ACardHoldsNeitherAProcessNorFrames) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = kLayers});
  const OverheadModel overhead(model.config, model.weights, FfnMode::kDense, kRows, 0);
  const model::LayerRange inner = {1, 2, false, false}, end = {1, 2, false, true};
  EXPECT_LT(overhead.MostOfLead(inner, 1, Holder::kCard) + kRuntimeBytes,
            overhead.MostOfLead(inner, 1, Holder::kProcess));
  EXPECT_EQ(overhead.LeastPerHelper(Holder::kCard), 0u);
  EXPECT_GE(overhead.MostOfLead(end, 0, Holder::kCard),
            overhead.MostOfLead(inner, 0, Holder::kCard) +
                kLogitsBlockRows * 4 * static_cast<uint64_t>(model.config.n_vocab));
}

TEST(OverheadModel, ACardHoldsListsOfPages) {
  const TinyModelParts model = MakeTinyModelParts({.n_layer = kLayers});
  const auto with = [&](int64_t n_pages) {
    return OverheadModel(model.config, model.weights, FfnMode::kDense, kRows, n_pages)
        .MostOfHelper(kLayers, Holder::kCard);
  };
  EXPECT_EQ(with(1000), with(0) + 4000);
  // Beyond what is there for all, once more for each of the eight on their way.
  EXPECT_EQ(with(1 << 20), with(0) + (uint64_t{4} << 20) + 8 * ((uint64_t{4} << 20)));
}

TEST(OverheadModel, WhoComputesOnACardIsKnownByTheProfile) {
  WorkerProfile worker;
  EXPECT_EQ(HolderOf(worker), Holder::kProcess);
  worker.gpus.resize(1);  // of its host
  EXPECT_EQ(HolderOf(worker), Holder::kProcess);
  worker.gpu = 0;
  EXPECT_EQ(HolderOf(worker), Holder::kCard);
}

}  // namespace
}  // namespace thermocline::placement
