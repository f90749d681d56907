#include "placement/link_preset.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace thermocline::placement {
namespace {

ClusterProfile ThreeWorkers() {
  ClusterProfile cluster;
  for (const auto& [id, host] : {std::pair{1, "a"}, {2, "a"}, {3, "b"}}) {
    cluster.workers.push_back({.id = {static_cast<uint64_t>(id)}, .host = host});
  }
  return cluster;
}

TEST(LinkPreset, NamesDifferAndNumbersArePossible) {
  std::set<std::string_view> names;
  for (const LinkPreset& preset : LinkPresets()) {
    EXPECT_TRUE(names.insert(preset.name).second) << preset.name;
    EXPECT_GT(preset.latency_us, 0) << preset.name;
    EXPECT_GT(preset.gb_per_s, 0) << preset.name;
    EXPECT_LE(preset.message_us, preset.latency_us) << preset.name;
  }
  EXPECT_TRUE(FindLinkPreset(kDefaultLinkPreset).ok());
}

TEST(LinkPreset, AnUnknownNameListsTheKnownOnes) {
  const auto none = FindLinkPreset("10gbe");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("10gbe-tcp"), std::string::npos);
}

TEST(LinkPreset, EveryPairGetsALinkAndMeasuredNumbersStay) {
  ClusterProfile cluster = ThreeWorkers();
  cluster.links.push_back({.from = {1}, .to = {3}, .latency_s = Figure::Measured(5e-6)});
  cluster.links.push_back({.from = {3}, .to = {1}, .preset = "wan"});
  ASSERT_TRUE(FillLinks(*FindLinkPreset("100gbe-roce"), LinkKind::kMpi, &cluster).ok());
  EXPECT_EQ(cluster.links.size(), 6u);
  EXPECT_EQ(cluster.FindLink({1}, {3})->latency_s, Figure::Measured(5e-6));
  EXPECT_EQ(cluster.FindLink({1}, {3})->bytes_per_s, Figure::Assumed(11.5e9));
  EXPECT_DOUBLE_EQ(cluster.FindLink({3}, {1})->latency_s.value, 25e-3);
  EXPECT_EQ(cluster.FindLink({3}, {1})->latency_s.origin, Origin::kAssumed);
  EXPECT_EQ(cluster.FindLink({1}, {2})->preset, "shm");
  EXPECT_EQ(cluster.FindLink({2}, {3})->preset, "100gbe-roce");
  EXPECT_TRUE(ValidateCluster(cluster).ok());
}

TEST(LinkPreset, ALinkThatNamesNoPresetIsRefused) {
  ClusterProfile cluster = ThreeWorkers();
  cluster.links.push_back({.from = {1}, .to = {3}, .preset = "string"});
  EXPECT_FALSE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
}

}  // namespace
}  // namespace thermocline::placement
