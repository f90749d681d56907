#include "coordinator/live_heat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

proto::FiringCounts Counts(int layer, uint64_t n_tokens, std::vector<uint32_t> counts,
                           std::vector<int32_t> neurons = {}) {
  return {.layer = layer,
          .n_tokens = n_tokens,
          .neurons = std::move(neurons),
          .counts = std::move(counts)};
}

TEST(LiveHeat, KnowsALayerWhenAllItsMembersHaveToldEnough) {
  LiveHeat heat(2, 4);
  EXPECT_FALSE(heat.KnowsAny());
  ASSERT_TRUE(heat.Add(Counts(1, 300, {30, 60}, {0, 3})).ok());
  EXPECT_FALSE(heat.Knows(1));
  ASSERT_TRUE(heat.Add(Counts(1, 200, {20, 200}, {1, 2})).ok());
  EXPECT_FALSE(heat.Knows(1));
  ASSERT_TRUE(heat.Add(Counts(1, 200, {20, 200}, {1, 2})).ok());
  EXPECT_TRUE(heat.Knows(1));
  EXPECT_FALSE(heat.Knows(0));
  // Hottest first; as hot ones stay as they stood.
  EXPECT_THAT(heat.OrderOf(1, {}), ElementsAre(2, 3, 0, 1));
  const std::vector<int32_t> before = {1, 0, 3, 2};
  EXPECT_THAT(heat.OrderOf(1, before), ElementsAre(2, 3, 1, 0));
}

TEST(LiveHeat, ForgetsWhatWasLongAgo) {
  LiveHeat heat(1, 2);
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(heat.Add(Counts(0, 256, {256, 0})).ok());
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(heat.Add(Counts(0, 256, {0, 128})).ok());
  const auto now = heat.HeatsIn({}, {placement::NeuronHeat::Uniform(2, 0)})[0].fires();
  EXPECT_NEAR(now[0], 0, 0.01);
  EXPECT_NEAR(now[1], 0.5, 0.01);
}

TEST(LiveHeat, MeansOfTheFirstTokensAreExact) {
  LiveHeat heat(1, 2);
  ASSERT_TRUE(heat.Add(Counts(0, 100, {10, 100})).ok());
  ASSERT_TRUE(heat.Add(Counts(0, 300, {130, 300})).ok());
  const auto now = heat.HeatsIn({}, {placement::NeuronHeat::Uniform(2, 0)})[0].fires();
  EXPECT_NEAR(now[0], 0.35, 1e-6);
  EXPECT_NEAR(now[1], 1, 1e-6);
}

TEST(LiveHeat, DriftIsBetweenTheSameAndOthers) {
  LiveHeat heat(2, 4);
  const std::vector<placement::NeuronHeat> planned = {placement::NeuronHeat::InPlaces({1, 1, 0, 0}),
                                                      placement::NeuronHeat::Uniform(4, 1)};
  EXPECT_EQ(heat.DriftFrom({}, planned), 0);  // nothing is known
  ASSERT_TRUE(heat.Add(Counts(0, 1000, {1000, 1000, 0, 0})).ok());
  EXPECT_NEAR(heat.DriftFrom({}, planned), 0, 1e-6);
  // The same rates, but the neurons stand elsewhere.
  const model::NeuronOrder turned{{{2, 3, 0, 1}, {}}};
  EXPECT_NEAR(heat.DriftFrom(turned, planned), 1, 1e-6);
  const model::NeuronOrder half{{{0, 2, 1, 3}, {}}};
  EXPECT_NEAR(heat.DriftFrom(half, planned), 0.5, 1e-6);
}

TEST(LiveHeat, RefusesCountsOfAnotherShape) {
  LiveHeat heat(1, 4);
  EXPECT_THAT(heat.Add(Counts(1, 5, {1, 1, 1, 1})).message(), HasSubstr("another model: layer=1"));
  EXPECT_FALSE(heat.Add(Counts(0, 5, {1, 1, 1})).ok());
  EXPECT_FALSE(heat.Add(Counts(0, 5, {1}, {4})).ok());
  EXPECT_FALSE(heat.Add(Counts(0, 0, {0, 0, 0, 0})).ok());
}

}  // namespace
}  // namespace thermocline::coordinator
