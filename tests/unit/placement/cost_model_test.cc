#include "placement/cost_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "tests/support/tiny_model_parts.h"

namespace thermocline::placement {
namespace {

using testing::MakeTinyModelParts;
using testing::TinyModelParts;

constexpr int kLayers = 3;

const TinyModelParts& Arcee() {
  static const TinyModelParts parts =
      MakeTinyModelParts({.arch = "arcee", .n_layer = kLayers, .n_ff = 256});
  return parts;
}

// Worker 2 is twice as fast as worker 1 in everything.
ClusterProfile TwoWorkers() {
  ClusterProfile cluster;
  for (int i = 1; i <= 2; ++i) {
    cluster.workers.push_back({.id = {static_cast<uint64_t>(i)},
                               .memory_bytes = kGiB,
                               .read_bytes_per_s = Figure::Measured(1e9 * i),
                               .gather_bytes_per_s = Figure::Measured(1e9 * i),
                               .op_overhead_s = Figure::Measured(0)});
  }
  for (int from = 1; from <= 2; ++from) {
    cluster.links.push_back({.from = {static_cast<uint64_t>(from)},
                             .to = {static_cast<uint64_t>(3 - from)},
                             .latency_s = Figure::Measured(20e-6),
                             .bytes_per_s = Figure::Measured(1e6),
                             .message_s = Figure::Measured(3e-6)});
  }
  return cluster;
}

// The first quarter of the neurons fires always, the rest for one token in ten.
NeuronHeat HotQuarter() {
  model::LayerActivity activity;
  for (int i = 0; i < 256; ++i) activity.fired.push_back(i < 64 ? 1000 : 100);
  return NeuronHeat::Of(activity, 1000);
}

class CostModelTest : public ::testing::Test {
 protected:
  CostModel Make(model::FfnModes ffn, int64_t n_sequences = 1, DType wire = DType::kF32) const {
    return CostModel({.config = model_.config,
                      .weights = model_.weights,
                      .heats = heats_,
                      .cluster = cluster_,
                      .ffn = ffn,
                      .step = {.n_sequences = n_sequences},
                      .wires = PairWires(wire)});
  }
  double WeightBytes(model::WeightRole role) const {
    return static_cast<double>(model_.weights.Find(role, 0)->size_bytes);
  }

  const TinyModelParts& model_ = Arcee();
  const std::vector<NeuronHeat> heats_{kLayers, HotQuarter()};
  ClusterProfile cluster_ = TwoWorkers();
};

TEST_F(CostModelTest, ALayerTakesTheBytesItReadsOverTheBandwidth) {
  using Role = model::WeightRole;
  const double attention = WeightBytes(Role::kAttnQ) + WeightBytes(Role::kAttnK) +
                           WeightBytes(Role::kAttnV) + WeightBytes(Role::kAttnOutput);
  const double kv = 2 * 4.0 * static_cast<double>(model_.config.n_embd_kv());
  const double up = WeightBytes(Role::kFfnUp), down = WeightBytes(Role::kFfnDown);
  // Exact: up for all, down for a quarter and a tenth of the rest.
  const double needed = 0.25 + 0.75 * 0.1;
  const CostModel exact = Make(model::FfnMode::kExact);
  EXPECT_NEAR(exact.LayerSeconds({1}, 0), (attention + kv + up + needed * down) / 1e9, 1e-12);
  EXPECT_NEAR(exact.LayerSeconds({2}, 0), exact.LayerSeconds({1}, 0) / 2, 1e-12);
  const CostModel dense = Make(model::FfnMode::kDense);
  EXPECT_NEAR(dense.LayerSeconds({1}, 0), (attention + kv + up + down) / 1e9, 1e-12);
}

TEST_F(CostModelTest, OfSeveralModesTheFastestIsTaken) {
  model::FfnModes both = model::FfnMode::kDense;
  both.Add(model::FfnMode::kExact);
  const TinyModelParts gated =
      MakeTinyModelParts({.n_layer = kLayers, .n_ff = 256, .activation = "relu"});
  const auto mode = [&](model::FfnModes ffn) {
    return CostModel({.config = gated.config,
                      .weights = gated.weights,
                      .heats = heats_,
                      .cluster = cluster_,
                      .ffn = ffn})
        .ModeOf(0);
  };
  EXPECT_EQ(mode(both), model::FfnMode::kExact);
  EXPECT_EQ(mode(model::FfnMode::kDense), model::FfnMode::kDense);
}

TEST_F(CostModelTest, BlocksAddUpToTheWholeLayer) {
  for (const int n_sequences : {1, 8}) {
    const CostModel costs = Make(model::FfnMode::kExact, n_sequences);
    const SplitProblem problem = costs.ProblemOf({{1}, {2}}, {0, kLayers});
    ASSERT_EQ(problem.layers.size(), static_cast<size_t>(kLayers));
    const SplitLayer& layer = problem.layers[1];
    ASSERT_EQ(layer.block_bytes.size(), static_cast<size_t>(costs.n_blocks()));
    EXPECT_NEAR(layer.fixed_s + problem.devices[0].part_s + layer.seconds[0].back(),
                costs.LayerSeconds({1}, 1), 1e-12);
    EXPECT_NEAR(layer.seconds[1].back(), layer.seconds[0].back() / 2, 1e-12);
    const uint64_t bytes =
        std::accumulate(layer.block_bytes.begin(), layer.block_bytes.end(), uint64_t{0});
    EXPECT_EQ(bytes, ModelBytes::Of(model_.config, model_.weights, model::FfnMode::kExact)
                         .Neurons(1, {0, 256})
                         .sum());
    // Hot blocks cost more.
    EXPECT_GT(layer.seconds[0][1], layer.seconds[0].back() - layer.seconds[0].end()[-2]);
  }
}

TEST_F(CostModelTest, AHelperCostsItsRoundTripAndTheLeadsTimeToSend) {
  const SplitProblem problem = Make(model::FfnMode::kExact).ProblemOf({{1}, {2}}, {0, 1});
  const double transfer = 4.0 * model_.config.n_embd / 1e6;
  EXPECT_EQ(problem.devices[0].send_s, 0);
  EXPECT_NEAR(problem.devices[1].send_s, 3e-6 + transfer, 1e-12);
  EXPECT_NEAR(problem.devices[1].send_busy_s, 3e-6, 1e-12);
  EXPECT_NEAR(problem.devices[1].round_trip_s, 20e-6 + 20e-6 + 2 * transfer, 1e-12);  // F64
  EXPECT_NEAR(problem.devices[1].part_s, 3e-6, 1e-12);  // its message back; ops cost nothing
}

// The two of TwoWorkers on cards of one host, which reach each other at 10 us and 1 GB/s.
ClusterProfile TwoCards() {
  ClusterProfile cluster = TwoWorkers();
  for (int i = 0; i < 2; ++i) {
    WorkerProfile& worker = cluster.workers[static_cast<size_t>(i)];
    worker.host = "box";
    worker.op_overhead_s = Figure::Measured(1e-6);
    worker.gpu = i;
    worker.nccl_version = "2.28.9";
    worker.gpus.resize(2);
    for (int g = 0; g < 2; ++g) {
      worker.gpus[static_cast<size_t>(g)].peers = {
          {.gpu = 1 - g, .latency_s = Figure::Assumed(10e-6), .bytes_per_s = Figure::Assumed(1e9)}};
    }
  }
  return cluster;
}

TEST_F(CostModelTest, CardsOfOneStageAddTheirSumsWithoutTheHost) {
  cluster_ = TwoCards();
  const double n_bytes = 4.0 * model_.config.n_embd;
  for (const DType wire : {DType::kF32, DType::kF16}) {  // on cards nothing is rounded
    const SplitDevice helper =
        Make(model::FfnMode::kExact, 1, wire).ProblemOf({{1}, {2}}, {0, 1}).devices[1];
    EXPECT_NEAR(helper.send_busy_s, 1e-6, 1e-12);
    EXPECT_NEAR(helper.send_s, 1e-6 + n_bytes / 1e9, 1e-12);
    EXPECT_NEAR(helper.round_trip_s, 2 * 10e-6 + 2 * n_bytes / 1e9, 1e-12);
  }
}

TEST_F(CostModelTest, AHopTakesTheFasterOfBothWays) {
  const double by_hosts = Make(model::FfnMode::kExact).HopSeconds({1}, {2});
  const double rounded = Make(model::FfnMode::kExact, 1, DType::kF16).HopSeconds({1}, {2});
  cluster_ = TwoCards();
  const double n_bytes = 4.0 * model_.config.n_embd;
  EXPECT_NEAR(Make(model::FfnMode::kExact).HopSeconds({1}, {2}), 11e-6 + n_bytes / 1e9, 1e-12);
  EXPECT_NEAR(Make(model::FfnMode::kExact, 1, DType::kF16).HopSeconds({1}, {2}), rounded, 1e-12);
  for (WorkerProfile& worker : cluster_.workers) {
    for (GpuInfo& gpu : worker.gpus) gpu.peers[0].bytes_per_s = Figure::Assumed(1e3);
  }
  EXPECT_NEAR(Make(model::FfnMode::kExact).HopSeconds({1}, {2}), by_hosts, 1e-12);
}

TEST_F(CostModelTest, WithoutAWayBetweenCardsTheHostsCarryAll) {
  const double by_hosts = Make(model::FfnMode::kExact).HopSeconds({1}, {2});
  const std::vector<std::function<void(WorkerProfile&)>> changes = {
      [](WorkerProfile& worker) { worker.host = "elsewhere"; },
      [](WorkerProfile& worker) { worker.gpu = 1; },  // the other's card
      [](WorkerProfile& worker) { worker.gpu = -1; },
      [](WorkerProfile& worker) { worker.nccl_version = ""; },
      [](WorkerProfile& worker) { worker.nccl_version = "2.14.3"; },
      [](WorkerProfile& worker) { worker.gpus[0].peers.clear(); },
      [](WorkerProfile& worker) { worker.gpus[1].pci_bus_id = "0001:00:00.0"; },
      [](WorkerProfile& worker) { worker.gpus.resize(1); },
      [](WorkerProfile& worker) { worker.gpus[0].peers[0].bytes_per_s = {}; },
  };
  for (const auto& change : changes) {
    cluster_ = TwoCards();
    change(cluster_.workers[0]);
    EXPECT_NEAR(Make(model::FfnMode::kExact).HopSeconds({1}, {2}), by_hosts, 1e-12);
  }
}

TEST_F(CostModelTest, ALinkTakesTheBytesOfItsWireType) {
  const auto n_embd = static_cast<double>(model_.config.n_embd);
  const CostModel wide = Make(model::FfnMode::kExact);
  for (const DType wire : {DType::kF16, DType::kBF16}) {
    const CostModel narrow = Make(model::FfnMode::kExact, 1, wire);
    EXPECT_NEAR(wide.HopSeconds({1}, {2}) - narrow.HopSeconds({1}, {2}), 2 * n_embd / 1e6, 1e-12);
    const SplitDevice helper = narrow.ProblemOf({{1}, {2}}, {0, 1}).devices[1];
    EXPECT_NEAR(helper.send_s, 3e-6 + 2 * n_embd / 1e6, 1e-12);
    EXPECT_NEAR(helper.round_trip_s, 40e-6 + 2 * n_embd / 1e6, 1e-12);
  }
}

TEST_F(CostModelTest, BlocksAreNeuronsInHeatOrder) {
  const CostModel costs = Make(model::FfnMode::kExact);
  EXPECT_EQ(costs.NeuronsOf({0, costs.n_blocks()}), (NeuronRange{0, 256}));
  EXPECT_EQ(costs.block_neurons() % model::kSumChunk, 0);
  EXPECT_EQ(costs.NeuronsOf({1, 2}),
            (NeuronRange{costs.block_neurons(), 2 * costs.block_neurons()}));
  EXPECT_EQ(costs.NeuronsOf({2, 2}), NeuronRange{});
}

TEST_F(CostModelTest, ABatchReadsMoreNeuronsButEachOnce) {
  const double one = Make(model::FfnMode::kExact).LayerSeconds({1}, 0);
  const double eight = Make(model::FfnMode::kExact, 8).LayerSeconds({1}, 0);
  EXPECT_GT(eight, one);
  EXPECT_LT(eight, 2 * one);
}

TEST_F(CostModelTest, TheHeadChoosesATokenForEverySequence) {
  const CostModel one = Make(model::FfnMode::kDense);
  const CostModel four = Make(model::FfnMode::kDense, 4);
  EXPECT_GT(one.HeadSeconds({1}), 0);
  EXPECT_GT(four.HeadSeconds({1}) - one.HeadSeconds({1}), 0);
  EXPECT_NEAR(four.HopSeconds({1}, {2}) - one.HopSeconds({1}, {2}),
              3 * 4.0 * model_.config.n_embd / 1e6, 1e-12);
}

}  // namespace
}  // namespace thermocline::placement
