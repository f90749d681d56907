#include "placement/pool_alike.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace thermocline::placement {
namespace {

WorkerProfile Worker(uint64_t id, double gb_per_s) {
  return {.id = {id},
          .host = "h",
          .n_cores = 8,
          .n_threads = 8,
          .memory_bytes = 1000 + id,
          .read_bytes_per_s = Figure::Measured(gb_per_s * 1e9),
          .op_overhead_s = Figure::Measured(1e-6 * gb_per_s),
          .compute_rates = {{DType::kF16, 1, {5e9, Origin::kGiven}}},
          .weight_rates = {
              {WeightUse::kMatMul, DType::kF16, 1, 1, Figure::Measured(gb_per_s * 0.9e9)}}};
}

TEST(PoolAlikeWorkers, EqualMachinesComeOutEqual) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 18), Worker(3, 21)}, .links = {}};
  PoolAlikeWorkers(&cluster);
  const double mean = std::cbrt(20.0 * 18 * 21) * 1e9;
  for (const WorkerProfile& worker : cluster.workers) {
    EXPECT_NEAR(worker.read_bytes_per_s.value, mean, 1);
    EXPECT_NEAR(worker.weight_rates[0].bytes_per_s.value, 0.9 * mean, 1);
    EXPECT_NEAR(worker.op_overhead_s.value, mean * 1e-15, 1e-12);
    EXPECT_EQ(worker.read_bytes_per_s, cluster.workers[0].read_bytes_per_s);
    EXPECT_EQ(worker.weight_rates, cluster.workers[0].weight_rates);
    EXPECT_EQ(worker.memory_bytes, 1000 + worker.id.value);
  }
  ClusterProfile again = cluster;
  PoolAlikeWorkers(&again);
  EXPECT_NEAR(again.workers[0].read_bytes_per_s.value, mean, 1);
}

TEST(PoolAlikeWorkers, SlowerAndOtherMachinesKeepTheirFigures) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 15), Worker(3, 20), Worker(4, 20)},
                         .links = {}};
  cluster.workers[2].n_threads = 4;
  cluster.workers[3].read_bytes_per_s.origin = Origin::kGiven;
  const ClusterProfile before = cluster;
  PoolAlikeWorkers(&cluster);
  EXPECT_EQ(cluster, before);
}

TEST(PoolAlikeWorkers, GivenFiguresStayAndTellKindsApart) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 19), Worker(3, 18)}, .links = {}};
  cluster.workers[1].compute_rates[0].flops_per_s.value = 6e9;
  PoolAlikeWorkers(&cluster);
  EXPECT_EQ(cluster.workers[0].compute_rates[0].flops_per_s, (Figure{5e9, Origin::kGiven}));
  EXPECT_EQ(cluster.workers[1].read_bytes_per_s, Figure::Measured(19e9));
  EXPECT_EQ(cluster.workers[0].read_bytes_per_s, cluster.workers[2].read_bytes_per_s);
}

TEST(PoolAlikeWorkers, GpusOfOneKindAreAlikeWhereverTheySit) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 19), Worker(3, 18)}, .links = {}};
  for (WorkerProfile& worker : cluster.workers) {
    const double id = static_cast<double>(worker.id.value);
    worker.gpus = {{.name = worker.id.value == 3 ? "B" : "A",
                    .pci_bus_id = std::to_string(worker.id.value),
                    .free_bytes = worker.id.value,
                    .read_bytes_per_s = Figure::Measured(id * id * 1e12)}};
    worker.gpu = 0;
  }
  PoolAlikeWorkers(&cluster);
  EXPECT_NEAR(cluster.workers[0].gpus[0].read_bytes_per_s.value, 2e12, 1);
  EXPECT_EQ(cluster.workers[1].read_bytes_per_s, cluster.workers[0].read_bytes_per_s);
  EXPECT_EQ(cluster.workers[2].read_bytes_per_s, Figure::Measured(18e9));
}

// Each has measured its own card of the two, and assumes of the other what it has to.
TEST(PoolAlikeWorkers, WorkersOfOneHostAreAlikeOnWhicheverCard) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 19)}, .links = {}};
  for (size_t i = 0; i < 2; ++i) {
    WorkerProfile& worker = cluster.workers[i];
    worker.gpu = static_cast<int>(i);
    worker.gpus.resize(2);
    GpuInfo &own = worker.gpus[i], &other = worker.gpus[1 - i];
    own.upload_bytes_per_s = Figure::Measured(i == 0 ? 20e9 : 5e9);
    own.copy_s = Figure::Measured(i == 0 ? 4e-6 : 9e-6);
    other.upload_bytes_per_s = Figure::Assumed(24e9);
  }
  PoolAlikeWorkers(&cluster);
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<GpuInfo>& gpus = cluster.workers[i].gpus;
    EXPECT_NEAR(gpus[i].upload_bytes_per_s.value, 10e9, 1);
    EXPECT_NEAR(gpus[i].copy_s.value, 6e-6, 1e-12);
    EXPECT_EQ(gpus[1 - i].upload_bytes_per_s, Figure::Assumed(24e9));
  }
  EXPECT_EQ(WithoutNames(cluster.workers[0]).gpus, WithoutNames(cluster.workers[1]).gpus);
  cluster.workers[1].gpus[1].upload_bytes_per_s.value = 1e9;
  EXPECT_NE(WithoutNames(cluster.workers[0]).gpus, WithoutNames(cluster.workers[1]).gpus);
}

TEST(PoolAlikeWorkers, TheOrderOfWorkersDoesNotMatter) {
  ClusterProfile one{.workers = {Worker(1, 10), Worker(2, 12), Worker(3, 13.5), Worker(4, 15.5)},
                     .links = {}};
  ClusterProfile other = one;
  std::reverse(other.workers.begin(), other.workers.end());
  PoolAlikeWorkers(&one);
  PoolAlikeWorkers(&other);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(one.workers[i].read_bytes_per_s.value, other.workers[3 - i].read_bytes_per_s.value,
                1);
  }
  EXPECT_EQ(one.workers[0].read_bytes_per_s, one.workers[1].read_bytes_per_s);
  EXPECT_EQ(one.workers[2].read_bytes_per_s, one.workers[3].read_bytes_per_s);
  EXPECT_LT(one.workers[1].read_bytes_per_s.value, one.workers[2].read_bytes_per_s.value);
}

LinkProfile Link(uint64_t from, uint64_t to, double latency_us, double gb_per_s) {
  return {.from = {from},
          .to = {to},
          .latency_s = Figure::Measured(1e-6 * latency_us),
          .bytes_per_s = Figure::Measured(1e9 * gb_per_s),
          .message_s = Figure::Measured(1e-6)};
}

TEST(PoolAlikeLinks, WithinAHostAllLinksOfEqualWorkersAreOne) {
  ClusterProfile cluster{
      .workers = {Worker(1, 20), Worker(2, 20), Worker(3, 12)},
      .links = {Link(1, 2, 0.5, 8), Link(2, 1, 2, 0.5), Link(1, 3, 4, 1), Link(3, 1, 1, 1)}};
  PoolAlikeLinks(&cluster);
  EXPECT_NEAR(cluster.links[0].latency_s.value, 1e-6, 1e-12);
  EXPECT_NEAR(cluster.links[0].bytes_per_s.value, 2e9, 1);
  EXPECT_EQ(cluster.links[0].latency_s, cluster.links[1].latency_s);
  EXPECT_EQ(cluster.links[0].bytes_per_s, cluster.links[1].bytes_per_s);
  EXPECT_EQ(cluster.links[2], Link(1, 3, 4, 1));  // to a slower worker: of another kind
  EXPECT_EQ(cluster.links[3], Link(3, 1, 1, 1));  // and the way back is no way there
}

TEST(PoolAlikeLinks, BetweenHostsOnlyWhatDiffersLittleIsOne) {
  ClusterProfile cluster{.workers = {Worker(1, 20), Worker(2, 20), Worker(3, 20)},
                         .links = {Link(1, 2, 20, 1), Link(2, 1, 24, 1.2), Link(1, 3, 50, 1),
                                   Link(3, 1, 22, 0.1), Link(2, 3, 21, 1)}};
  for (size_t i = 0; i < 3; ++i) cluster.workers[i].host = std::string(1, "abc"[i]);
  cluster.links[4].latency_s.origin = Origin::kGiven;
  const ClusterProfile before = cluster;
  PoolAlikeLinks(&cluster);
  EXPECT_NEAR(cluster.links[0].latency_s.value, 1e-6 * std::sqrt(20.0 * 24), 1e-12);
  EXPECT_EQ(cluster.links[0].latency_s, cluster.links[1].latency_s);
  for (size_t i = 2; i < 5; ++i) EXPECT_EQ(cluster.links[i], before.links[i]) << i;
}

}  // namespace
}  // namespace thermocline::placement
