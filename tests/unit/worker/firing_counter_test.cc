// What workers tell of their neurons is what fired.
#include "worker/firing_counter.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using testing::ChainOptions;
using testing::StageChain;
using testing::TempFile;

const std::vector<int32_t> kTokens = [] {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 160; ++i) tokens.push_back((i * 37 + 5) % 250);
  return tokens;
}();

class FiringCounterTest : public ::testing::Test {
 protected:
  // Every layer's counts after a text, a token per step.
  std::vector<proto::FiringCounts> Told(StageChain& chain, FiringCounter& counter) {
    chain.last().set_firing(&counter);
    chain.Logits({1}, kTokens, 1);
    std::vector<proto::FiringCounts> told;
    const TimePoint late{std::chrono::hours(1)};
    EXPECT_TRUE(counter
                    .Report({3}, late,
                            [&](const proto::Message& message) {
                              told.push_back(std::get<proto::FiringCounts>(message));
                              return OkStatus();
                            })
                    .ok());
    // Told once.
    EXPECT_TRUE(counter
                    .Report({3}, late + std::chrono::hours(1),
                            [](const proto::Message&) { return Internal("told twice"); })
                    .ok());
    return told;
  }
  const TempFile file_{testing::TinyModel({.arch = "arcee", .n_layer = 2, .n_ff = 128})};
};

TEST_F(FiringCounterTest, ExactAndPredictedLayersCountWhatFires) {
  ChainOptions options;
  options.ffn = {model::FfnMode::kExact, true};
  options.n_pages = 64;
  StageChain chain(file_.path(), options);
  FiringCounter counter(chain.last().shard(), {0, 2, true, true});
  const auto told = Told(chain, counter);
  ASSERT_EQ(told.size(), 2u);
  for (const proto::FiringCounts& counts : told) {
    EXPECT_EQ(counts.epoch, Epoch{3});
    EXPECT_EQ(counts.n_tokens, kTokens.size() / 8);
    ASSERT_EQ(counts.counts.size(), 128u);
    uint64_t n_fired = 0;
    for (const uint32_t count : counts.counts) {
      EXPECT_LE(count, counts.n_tokens);
      n_fired += count;
    }
    // Random weights fire every other time.
    const double density = double(n_fired) / double(counts.n_tokens * 128);
    EXPECT_GT(density, 0.3);
    EXPECT_LT(density, 0.7);
  }
}

TEST_F(FiringCounterTest, DenseLayersSayNothing) {
  ChainOptions options;
  options.ffn = {model::FfnMode::kDense, true};
  StageChain chain(file_.path(), options);
  FiringCounter counter(chain.last().shard(), {0, 2, true, true});
  EXPECT_TRUE(Told(chain, counter).empty());
}

TEST(FiringCounter, CountsAreOfTheNeuronsHeld) {
  const TempFile file(testing::TinyModel({.arch = "arcee", .n_layer = 1, .n_ff = 128}));
  LoadedModel model = OpenModel(file.path()).value();
  model.neuron_order.layers = {std::vector<int32_t>(128)};
  for (int32_t i = 0; i < 128; ++i) model.neuron_order.layers[0][size_t(i)] = 127 - i;
  const auto device = kernels::MakeReferenceDevice();
  FfnPlan ffn{.modes = model::FfnMode::kExact, .neurons = {{0, 3}}};
  const auto shard = Shard::Load(model.source(), {0, 1, true, true}, ffn, *device, IgnoreProgress);
  ASSERT_TRUE(shard.ok()) << shard.status();
  FiringCounter counter(*shard, {0, 1, true, true});
  std::vector<float> a = {0.5f, 0, 2};
  std::vector<int32_t> ids = {0, 2};
  int32_t n_active = 2;
  for (int step = 0; step < 64; ++step) {
    counter.OnNeurons(0, {ids.data(), &n_active, 3}, TensorView::F32(a.data(), 1, 3));
  }
  std::optional<proto::FiringCounts> told;
  ASSERT_TRUE(counter
                  .Report({1}, TimePoint{std::chrono::hours(1)},
                          [&](const proto::Message& message) {
                            told = std::get<proto::FiringCounts>(message);
                            return OkStatus();
                          })
                  .ok());
  ASSERT_TRUE(told.has_value());
  // Places 0, 1, 2 are neurons 127, 126, 125.
  EXPECT_EQ(told->neurons, (std::vector<int32_t>{125, 126, 127}));
  EXPECT_EQ(told->counts, (std::vector<uint32_t>{8, 0, 8}));
}

}  // namespace
}  // namespace thermocline::worker
