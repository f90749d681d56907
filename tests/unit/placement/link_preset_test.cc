#include "placement/link_preset.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str.h"

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

// TCP and RoCE of every usual rate of Ethernet; RoCE is no slower to begin and reaches no more than
// the line has.
TEST(LinkPreset, EthernetOfEachRateHasTcpAndRoce) {
  for (const int gbit : {1, 10, 25, 100}) {
    const auto tcp = FindLinkPreset(Str(gbit, "gbe-tcp"));
    const auto roce = FindLinkPreset(Str(gbit, "gbe-roce"));
    ASSERT_TRUE(tcp.ok() && roce.ok()) << gbit;
    EXPECT_LT(roce->latency_us, tcp->latency_us) << gbit;
    EXPECT_LE(roce->message_us, tcp->message_us) << gbit;
    EXPECT_LT(roce->gb_per_s, gbit / 8.0) << gbit;
    EXPECT_LT(tcp->gb_per_s, gbit / 8.0) << gbit;
  }
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

TEST(LinkPreset, EachPairIsAssumedToBeWhatItsTransportIs) {
  ClusterProfile cluster = ThreeWorkers();
  cluster.workers[2].host = cluster.workers[0].host;
  const PairTransport to_third([](WorkerId a, WorkerId b) {
    return a.value == 3 || b.value == 3 ? LinkKind::kZmq : LinkKind::kMpi;
  });
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), to_third, &cluster).ok());
  EXPECT_EQ(cluster.FindLink({1}, {2})->transport, LinkKind::kMpi);
  EXPECT_EQ(cluster.FindLink({1}, {2})->preset, "shm");
  EXPECT_EQ(cluster.FindLink({3}, {1})->transport, LinkKind::kZmq);
  EXPECT_EQ(cluster.FindLink({3}, {1})->preset, "zmq-loopback");
}

TEST(LinkPreset, BothWaysAreOfOneTransport) {
  ClusterProfile cluster = ThreeWorkers();
  cluster.links = {{.from = {1}, .to = {2}, .transport = LinkKind::kMpi}};
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster.FindLink({2}, {1})->transport, LinkKind::kMpi);
  EXPECT_EQ(cluster.FindLink({2}, {3})->transport, LinkKind::kZmq);
}

TEST(LinkPreset, ALinkThatNamesNoPresetIsRefused) {
  ClusterProfile cluster = ThreeWorkers();
  cluster.links.push_back({.from = {1}, .to = {3}, .preset = "string"});
  EXPECT_FALSE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
}

GpuInfo Gpu(int pcie_generation, int lanes, int nvlink_generation, std::vector<GpuPeer> peers) {
  return {.pcie_generation = pcie_generation,
          .pcie_lanes = lanes,
          .nvlink_generation = nvlink_generation,
          .peers = std::move(peers)};
}

WorkerProfile WorkerOf(std::vector<GpuInfo> gpus) {
  WorkerProfile worker{.id = {1}};
  worker.gpus = std::move(gpus);
  return worker;
}

constexpr std::string_view kCopies = "with the copies from and to GPUs";

// Worker 1 is on a card; its copies were measured.
ClusterProfile WithACard() {
  ClusterProfile cluster = ThreeWorkers();
  GpuInfo gpu;
  gpu.upload_bytes_per_s = Figure::Measured(4e9);
  gpu.download_bytes_per_s = Figure::Measured(2e9);
  gpu.copy_s = Figure::Measured(10e-6);
  cluster.workers[0].gpus = {GpuInfo{}, gpu};
  cluster.workers[0].gpu = 1;
  return cluster;
}

// zmq-loopback: 26 us and 2.5 GB/s.
TEST(LinkPreset, AnAssumedHopOfAGpuHasItsCopiesBothWays) {
  ClusterProfile cluster = WithACard();
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  const LinkProfile &out = *cluster.FindLink({1}, {2}), &back = *cluster.FindLink({2}, {1});
  EXPECT_NEAR(out.latency_s.value, 36e-6, 1e-12);
  EXPECT_NEAR(back.latency_s.value, 36e-6, 1e-12);
  EXPECT_NEAR(1 / out.bytes_per_s.value, 1 / 2.5e9 + 1 / 2e9, 1e-18);
  EXPECT_NEAR(1 / back.bytes_per_s.value, 1 / 2.5e9 + 1 / 4e9, 1e-18);
  EXPECT_EQ(out.bytes_per_s.origin, Origin::kAssumed);
  EXPECT_NEAR(out.message_s.value, 10e-6, 1e-12);  // the sender's thread does not wait
  EXPECT_EQ(out.preset, "zmq-loopback");
  EXPECT_EQ(out.note, kCopies);
  EXPECT_EQ(*cluster.FindLink({2}, {3}), [] {
    ClusterProfile plain = ThreeWorkers();
    (void)FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &plain);
    return *plain.FindLink({2}, {3});
  }());
  const ClusterProfile once = cluster;
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster, once) << "what was assumed once stays";
}

TEST(LinkPreset, AMeasuredHopOfAGpuHasThemAlready) {
  ClusterProfile cluster = WithACard();
  cluster.links = {{.from = {1}, .to = {2}, .latency_s = Figure::Measured(5e-6)}};
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster.FindLink({1}, {2})->latency_s, Figure::Measured(5e-6));
  EXPECT_NEAR(1 / cluster.FindLink({1}, {2})->bytes_per_s.value, 1 / 2.5e9 + 1 / 2e9, 1e-18);
}

// Only where a number was filled in that has copies in it.
TEST(LinkPreset, ANoteOfCopiesIsOfThoseThatWereAdded) {
  ClusterProfile cluster = WithACard();
  cluster.workers[2].gpus = {GpuInfo{}};  // of which nothing is known
  cluster.workers[2].gpu = 0;
  cluster.links = {{.from = {1},
                    .to = {2},
                    .latency_s = Figure::Measured(5e-6),
                    .bytes_per_s = Figure::Measured(1e9)},
                   {.from = {2}, .to = {1}, .note = "a long cable"},
                   {.from = {1}, .to = {3}, .bytes_per_s = Figure::Measured(1e9)}};
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster.FindLink({1}, {2})->note, "") << "only what a message costs is assumed";
  EXPECT_EQ(cluster.FindLink({2}, {1})->note, Str("a long cable; ", kCopies));
  EXPECT_EQ(cluster.FindLink({1}, {3})->note, kCopies);
  EXPECT_EQ(cluster.FindLink({2}, {3})->note, "") << "no copies were known";
  const ClusterProfile once = cluster;
  ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster, once);
}

// Such a card is refused or is not worth anything; its links are not what is wrong.
TEST(LinkPreset, AnExtremeCardLeavesItsLinksPossible) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const auto& [copy_s, rate] : {std::pair{1e308, 1e-310},
                                     {1e-310, 1e308},
                                     {-1., -1.},
                                     {inf, inf},
                                     {std::nan(""), std::nan("")},
                                     {inf, -inf}}) {
    ClusterProfile cluster = WithACard();
    GpuInfo& gpu = cluster.workers[0].gpus[1];
    gpu.copy_s = Figure::Measured(copy_s);
    gpu.upload_bytes_per_s = gpu.download_bytes_per_s = Figure::Measured(rate);
    ASSERT_TRUE(FillLinks(*FindLinkPreset("wan"), LinkKind::kZmq, &cluster).ok());
    for (const LinkProfile& link : cluster.links) {
      EXPECT_TRUE(std::isfinite(link.latency_s.value)) << copy_s;
      EXPECT_GT(link.bytes_per_s.value, 0) << rate;
      EXPECT_TRUE(std::isfinite(link.bytes_per_s.value)) << rate;
    }
    const Status status = ValidateCluster(cluster);
    if (!status.ok()) EXPECT_EQ(status.message().find("worker 1, GPU 1"), 0u) << status;
    EXPECT_EQ(status.ok(), std::isfinite(copy_s) && copy_s >= 0) << status;
  }
}

// pcie4: 6 us and 24 GB/s.
TEST(LinkPreset, CopiesThatNobodyMeasuredAreThoseOfTheBus) {
  ClusterProfile cluster = ThreeWorkers();
  for (const size_t i : {size_t{0}, size_t{2}}) {
    cluster.workers[i].gpus = {{.pcie_generation = 4, .pcie_lanes = 16}};
    cluster.workers[i].gpu = 0;
  }
  cluster.workers[1].gpus = cluster.workers[0].gpus;  // and computes on the CPU
  ASSERT_TRUE(FillLinks(*FindLinkPreset("1gbe-tcp"), LinkKind::kZmq, &cluster).ok());
  EXPECT_EQ(cluster.workers[0].gpus[0].copy_s, Figure::Assumed(6e-6));
  EXPECT_NEAR(cluster.FindLink({1}, {3})->latency_s.value, 30e-6 + 2 * 6e-6, 1e-12);
  EXPECT_NEAR(1 / cluster.FindLink({1}, {3})->bytes_per_s.value, 1 / 0.117e9 + 2 / 24e9, 1e-18);
  EXPECT_NEAR(cluster.FindLink({2}, {3})->latency_s.value, 30e-6 + 6e-6, 1e-12);
}

TEST(FillGpus, NvlinksCountByGenerationAndNumber) {
  WorkerProfile worker = WorkerOf(
      {Gpu(5, 16, 4, {{.gpu = 1, .n_nvlinks = 18}}), Gpu(5, 16, 4, {{.gpu = 0, .n_nvlinks = 9}})});
  FillGpus(&worker);
  EXPECT_EQ(worker.gpus[0].peers[0].bytes_per_s, Figure::Assumed(350e9));
  EXPECT_DOUBLE_EQ(worker.gpus[0].peers[0].latency_s.value, 5e-6);
  EXPECT_EQ(worker.gpus[0].peers[0].preset, "nvlink4");
  EXPECT_EQ(worker.gpus[1].peers[0].bytes_per_s, Figure::Assumed(175e9));
}

TEST(FillGpus, ThePathDecidesWithoutNvlinks) {
  WorkerProfile worker =
      WorkerOf({Gpu(5, 16, 0,
                    {{.gpu = 1, .path = GpuPath::kPcieSwitch},
                     {.gpu = 2, .path = GpuPath::kHostBridge},
                     {.gpu = 3, .path = GpuPath::kSystem},
                     {.gpu = 4}}),
                Gpu(5, 8, 0, {}), Gpu(4, 16, 0, {}), Gpu(4, 16, 0, {}), Gpu(0, 0, 0, {})});
  FillGpus(&worker);
  const std::vector<GpuPeer>& peers = worker.gpus[0].peers;
  EXPECT_EQ(peers[0].bytes_per_s, Figure::Assumed(27e9));  // half the lanes
  EXPECT_EQ(peers[1].bytes_per_s, Figure::Assumed(24e9));  // the older of the two
  EXPECT_EQ(peers[2].bytes_per_s, Figure::Assumed(10e9));
  EXPECT_EQ(peers[2].preset, "gpu-numa");
  EXPECT_FALSE(peers[3].bytes_per_s.known());
  EXPECT_EQ(worker.gpus[0].upload_bytes_per_s, Figure::Assumed(54e9));
  EXPECT_EQ(worker.gpus[1].download_bytes_per_s, Figure::Assumed(27e9));
  EXPECT_FALSE(worker.gpus[4].upload_bytes_per_s.known());
}

TEST(FillGpus, MeasuredAndNamedComeFirst) {
  WorkerProfile worker = WorkerOf(
      {Gpu(3, 16, 0, {{.gpu = 1, .preset = "nvlink3", .latency_s = Figure::Measured(1e-6)}}),
       Gpu(3, 16, 0,
           {{.gpu = 0,
             .path = GpuPath::kSameBoard,
             .latency_s = Figure::Measured(1e-6),
             .bytes_per_s = Figure::Measured(2e9)}})});
  worker.gpus[0].upload_bytes_per_s = Figure::Measured(9e9);
  FillGpus(&worker);
  EXPECT_EQ(worker.gpus[0].peers[0].latency_s, Figure::Measured(1e-6));
  EXPECT_EQ(worker.gpus[0].peers[0].bytes_per_s, Figure::Assumed(230e9));
  EXPECT_EQ(worker.gpus[0].upload_bytes_per_s, Figure::Measured(9e9));
  EXPECT_EQ(worker.gpus[1].peers[0].bytes_per_s, Figure::Measured(2e9));
  EXPECT_EQ(worker.gpus[1].peers[0].preset, "");
}

TEST(FillGpus, OldPcieIsAsManyTimesSlower) {
  WorkerProfile worker = WorkerOf({Gpu(1, 16, 0, {})});
  FillGpus(&worker);
  EXPECT_EQ(worker.gpus[0].upload_bytes_per_s, Figure::Assumed(11e9 / 4));
}

}  // namespace
}  // namespace thermocline::placement
