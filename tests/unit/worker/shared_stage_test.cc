// A stage whose neurons are shared computes what one worker computes.
#include "tests/support/shared_stage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::NeuronRange;
using testing::ChainOptions;
using testing::GgufDialect;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModelSpec;

constexpr int kLayers = 3;
constexpr int64_t kNeurons = 320;
const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3, 3, 200, 61, 7};

using Logits = std::vector<std::vector<float>>;
using Members = std::vector<std::vector<NeuronRange>>;

// Ranges alike in every layer.
Members Everywhere(const std::vector<NeuronRange>& ranges) {
  Members members;
  for (const NeuronRange& range : ranges) members.emplace_back(kLayers, range);
  return members;
}

// Largest difference over the deviation of the logits.
double Difference(const Logits& a, const Logits& b) {
  double largest = 0, sum = 0, n = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].size(), b[i].size());
    for (size_t j = 0; j < a[i].size(); ++j) {
      largest = std::max(largest, std::abs(double{a[i][j]} - b[i][j]));
      sum += double{a[i][j]} * a[i][j];
      ++n;
    }
  }
  return largest / std::sqrt(sum / n);
}

TinyModelSpec Spec(const std::string& arch) {
  return {.arch = arch, .n_layer = kLayers, .n_ff = static_cast<int>(kNeurons)};
}

Logits Alone(const TempFile& file, FfnMode mode) {
  ChainOptions options;
  options.ffn = {mode, true};
  return StageChain(file.path(), options).Logits({1}, kTokens, 64);
}

Logits Shared(const TempFile& file, FfnMode mode, const Members& members, size_t chunk = 64,
              int n_threads = 1) {
  SharedStageOptions options{.modes = mode, .members = members, .n_threads = n_threads};
  return SharedStage(file.path(), options).Logits({1}, kTokens, chunk);
}

// Cuts between chunks of neurons that are summed together (model::kSumChunk).
const Members kCuts[] = {Everywhere({{0, 64}, {64, 320}}), Everywhere({{256, 320}, {0, 256}}),
                         Everywhere({{128, 192}, {0, 128}, {192, 320}}),
                         Everywhere({{192, 256}, {256, 320}, {0, 64}, {64, 192}})};

TEST(SharedStage, GivesTheLogitsOfOneWorker) {
  for (const char* arch : {"llama", "arcee", "nemotron", "bamboo", "opt"}) {
    const TempFile file(testing::TinyModel(Spec(arch)));
    const bool relu = arch != std::string("llama");
    for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
      if (mode == FfnMode::kExact && !relu) continue;
      const Logits alone = Alone(file, mode);
      for (const Members& members : kCuts) {
        EXPECT_EQ(Shared(file, mode, members), alone)
            << arch << " " << model::FfnModeName(mode) << " members " << members.size();
      }
    }
  }
}

// Activations are rounded to 8 bits before they meet such weights, so that a bit of a sum would be
// a step of the next layer.
TEST(SharedStage, QuantisedModelsGiveTheBitsOfOneWorker) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ6_K}) {
    TinyModelSpec spec = Spec("arcee");
    spec.dtype = dtype;
    const bool is_super = Traits(dtype).block_elems == 256;
    if (is_super) spec.n_embd = 256, spec.n_ff = 512;
    const TempFile file(testing::TinyModel(spec));
    const Logits alone = Alone(file, FfnMode::kExact);
    for (Members members : kCuts) {
      for (std::vector<NeuronRange>& ranges : members) {
        for (NeuronRange& range : ranges) {
          if (is_super && range.end == kNeurons) range.end = 512;
        }
      }
      EXPECT_EQ(Shared(file, FfnMode::kExact, members), alone) << DTypeName(dtype);
      EXPECT_EQ(Shared(file, FfnMode::kExact, members, 1), alone) << DTypeName(dtype);
    }
  }
}

// A plan written by hand may cut where it likes.
TEST(SharedStage, CutsWithinChunksDifferByRoundings) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  constexpr double kRounding = 1e-5;  // chunks of 64 products, added in two parts instead of one
  const Logits alone = Alone(file, FfnMode::kExact);
  for (const Members& members :
       {Everywhere({{37, 320}, {0, 37}}), Everywhere({{0, 1}, {1, 320}})}) {
    EXPECT_LT(Difference(Shared(file, FfnMode::kExact, members), alone), kRounding);
  }
}

TEST(SharedStage, LayersAreSharedDifferently) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const Members members = {
      {{0, 320}, {0, 64}, {256, 320}}, {{0, 0}, {64, 320}, {0, 128}}, {{0, 0}, {0, 0}, {128, 256}}};
  EXPECT_EQ(Shared(file, FfnMode::kExact, members), Alone(file, FfnMode::kExact));
}

TEST(SharedStage, BitsDependOnNeitherChunksNorThreads) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const Members members = Everywhere({{0, 50}, {50, 320}});
  const Logits whole = Shared(file, FfnMode::kExact, members);
  EXPECT_EQ(Shared(file, FfnMode::kExact, members, 1), whole);
  EXPECT_EQ(Shared(file, FfnMode::kExact, members, 4), whole);
  EXPECT_EQ(Shared(file, FfnMode::kExact, members, 64, 3), whole);
  EXPECT_EQ(Shared(file, FfnMode::kDense, members), whole);
}

TEST(SharedStage, EveryMemberPredictsItsOwnNeurons) {
  TinyModelSpec spec = Spec("llama");
  spec.dialect = GgufDialect::kPowerInfer;
  for (const float threshold : {-std::numeric_limits<float>::infinity(), 0.0f}) {
    spec.predictor_threshold = threshold;
    const TempFile file(testing::TinyModel(spec));
    EXPECT_EQ(Shared(file, FfnMode::kPredicted, kCuts[0]), Alone(file, FfnMode::kPredicted));
  }
}

TEST(SharedStage, MembersReadAndHoldTheirOwnNeuronsOnly) {
  TinyModelSpec spec = Spec("llama");
  spec.dialect = GgufDialect::kPowerInfer;  // ffn_down by neuron
  const TempFile file(testing::TinyModel(spec));
  SharedStageOptions options{.modes = FfnMode::kDense,
                             .members = Everywhere({{0, 80}, {80, 160}, {160, 320}})};
  SharedStage shared(file.path(), options);
  ChainOptions alone;
  alone.ffn = {FfnMode::kDense, true};
  StageChain chain(file.path(), alone);
  const LoadReport all = chain.last().load_report();
  const LoadReport lead = shared.lead().load_report();
  const LoadReport small = shared.helper(0).load_report(), large = shared.helper(1).load_report();
  EXPECT_EQ(lead.read_bytes, lead.owned_bytes);
  EXPECT_EQ(small.read_bytes, small.owned_bytes);
  EXPECT_EQ(large.read_bytes, large.owned_bytes);
  const uint64_t norms = kLayers * sizeof(float) * 64;
  EXPECT_EQ(large.owned_bytes - norms, 2 * (small.owned_bytes - norms));
  EXPECT_EQ(lead.owned_bytes + small.owned_bytes + large.owned_bytes, all.owned_bytes + 2 * norms);
}

TEST(SharedStage, WhatTheLeadMustNotAskForIsRefused) {
  const TempFile file(testing::TinyModel(Spec("arcee")));
  const Members members = {{{0, 320}, {0, 30}, {0, 320}}, {{0, 0}, {30, 320}, {0, 0}}};
  SharedStage shared(file.path(), {.modes = FfnMode::kExact, .members = members});
  for (const auto& [layer, n_rows] : {std::pair{0, 1}, {3, 1}, {-1, 1}, {1, 65}, {1, 0}}) {
    const Status status = shared.helper(0).Run({.layer = layer, .n_rows = n_rows}, nullptr);
    EXPECT_EQ(status.code(), StatusCode::kDataLoss) << layer << " " << n_rows;
  }
}

}  // namespace
}  // namespace thermocline::worker
