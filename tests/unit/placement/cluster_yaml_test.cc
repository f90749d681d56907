#include "placement/cluster_yaml.h"

#include <gtest/gtest.h>

#include <string>

#include "base/units.h"

namespace thermocline::placement {
namespace {

ClusterProfile TwoWorkers() {
  ClusterProfile cluster;
  cluster.workers.resize(2);
  WorkerProfile& first = cluster.workers[0];
  first.id = {1};
  first.host = "box \"one\"\n";
  first.n_cores = 16;
  first.n_threads = 8;
  first.n_numa_nodes = 2;
  first.huge_pages = true;
  first.memory_bytes = 64 * kGiB;
  first.read_bytes_per_s = Figure::Measured(24.5e9);
  first.gather_bytes_per_s = Figure::Assumed(17e9);
  first.op_overhead_s = Figure::Measured(3e-6);
  first.read_rates = {{1, Figure::Measured(12e9)}, {8, Figure::Measured(24.5e9)}};
  first.compute_rates = {{DType::kQ4_K, 64, {9e11, Origin::kGiven}},
                         {DType::kFp8E5M2, 1, Figure::Measured(3e11)}};
  first.weight_rates = {{WeightUse::kMatMul, DType::kQ8_0, 1, 4, Figure::Measured(12e9)},
                        {WeightUse::kAxpyRows, DType::kF16, 0.1, 1, Figure::Assumed(9e9)}};
  first.gpus = {{.name = "A \"100\"",
                 .pci_bus_id = "00000000:1B:00.0",
                 .driver = "580.95",
                 .compute_capability = 80,
                 .memory_bytes = 80 * kGiB,
                 .free_bytes = 79 * kGiB,
                 .pcie_generation = 4,
                 .pcie_lanes = 16,
                 .n_nvlinks = 12,
                 .nvlink_generation = 3,
                 .numa_node = 0,
                 .cpus = "0-15",
                 .read_bytes_per_s = Figure::Measured(1.5e12),
                 .upload_bytes_per_s = Figure::Assumed(24e9),
                 .download_bytes_per_s = {25e9, Origin::kGiven},
                 .copy_s = Figure::Measured(4e-6),
                 .peers = {{1, GpuPath::kSystem, 12, "nvlink3", Figure::Assumed(8e-6),
                            Figure::Measured(200e9)}}},
                {.name = "plain", .memory_bytes = kGiB, .free_bytes = 0}};
  first.gpu = 1;
  first.nccl_version = "2.28.9";
  first.neuron_rows = model::NeuronRows::kFp8E5M2;
  cluster.workers[1].id = {7};
  cluster.links = {{{1},
                    {7},
                    LinkKind::kMpi,
                    "10gbe-tcp",
                    Figure::Measured(17e-6),
                    Figure::Assumed(1.15e9),
                    {},
                    "as \"others\""}};
  return cluster;
}

TEST(ClusterYaml, WhatIsWrittenIsRead) {
  const ClusterProfile cluster = TwoWorkers();
  const auto read = ClusterFromYaml(ClusterToYaml(cluster));
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->workers.size(), 2u);
  EXPECT_EQ(read->workers[0].host, "box \"one\"\n");
  EXPECT_EQ(read->workers[0].memory_bytes, 64 * kGiB);
  EXPECT_EQ(read->workers[0].compute_rates, cluster.workers[0].compute_rates);
  EXPECT_EQ(read->workers[0].weight_rates, cluster.workers[0].weight_rates);
  EXPECT_EQ(read->workers[0].gpus, cluster.workers[0].gpus);
  EXPECT_EQ(read->workers[1], cluster.workers[1]);
  EXPECT_EQ(read->links[0].preset, "10gbe-tcp");
  EXPECT_EQ(read->links[0].note, "as \"others\"");
  EXPECT_EQ(read->links[0].latency_s.origin, Origin::kMeasured);
  EXPECT_DOUBLE_EQ(read->links[0].latency_s.value, 17e-6);
  EXPECT_FALSE(read->links[0].message_s.known());
  EXPECT_EQ(ClusterToYaml(*read), ClusterToYaml(cluster));
}

TEST(ClusterYaml, ANumberAloneWasGivenByHand) {
  const auto read = ClusterFromYaml(
      "workers:\n"
      "  - {id: 1, memory: 1.5G, read_gb_per_s: 20}\n"
      "  - {id: 2, memory: 512M, read_gb_per_s: 30 assumed}\n");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->workers[0].memory_bytes, 3 * kGiB / 2);
  EXPECT_EQ(read->workers[0].read_bytes_per_s, (Figure{20e9, Origin::kGiven}));
  EXPECT_EQ(read->workers[1].read_bytes_per_s, Figure::Assumed(30e9));
}

struct BadCase {
  const char* yaml;
  const char* message;
};

TEST(ClusterYaml, MistakesAreNamedWithTheirLine) {
  const BadCase cases[] = {
      {"workers: [", "line 1: not YAML"},
      {"- 1\n", "line 1: the file is not a mapping"},
      {"version: 2\n", "version is not a whole number in 1..1"},
      {"version: 1\nspeed: 3\n", "line 2: unknown field: speed"},
      {"workers:\n  - {host: a}\n", "workers[0].id is missing"},
      {"workers:\n  - {id: 1, coers: 4}\n", "unknown field: workers[0].coers"},
      {"workers:\n  - {id: -1}\n", "workers[0].id is not a whole number"},
      {"workers:\n  - {id: 1, memory: many}\n", "workers[0].memory"},
      {"workers:\n  - {id: 1, read_gb_per_s: fast}\n", "read_gb_per_s is not a number: fast"},
      {"workers:\n  - {id: 1, read_gb_per_s: nan}\n", "read_gb_per_s is not a number: nan"},
      {"workers:\n  - {id: 1, read_gb_per_s: 3 guessed}\n",
       "origin is not unknown, assumed, given or measured: guessed"},
      {"workers:\n  - {id: 1, read_gb_per_s: 0}\n",
       "line 2: workers[0].read_gb_per_s is not above 0: 0"},
      {"workers:\n  - {id: 1}\n  - {id: 1}\n", "worker 1 stands twice"},
      {"workers:\n  - {id: 1, huge_pages: maybe}\n", "huge_pages is not true or false"},
      {"workers:\n  - {id: 1, compute_rates: [{type: Q9, tokens: 1, gflops: 1}]}\n",
       "compute_rates[0].type is not a type of weights"},
      {"workers:\n  - {id: 1, weight_rates: [{op: add, type: F16, gb_per_s: 1}]}\n",
       "op is not matmul, neurons or axpy_rows: add"},
      {"workers:\n  - {id: 1, weight_rates: [{type: F16, share: 0, gb_per_s: 1}]}\n",
       "worker 1: a share of weight_rates is not above 0 and up to 1: 0"},
      {"workers:\n  - {id: 1}\nlinks:\n  - {from: 1, to: 2}\n",
       "line 4: links[0].to is no worker of this file: 2"},
      {"workers:\n  - {id: 1}\n  - {id: 2}\nlinks:\n  - {from: 1, to: 2, latency_us: -3}\n",
       "links[0].latency_us is negative: -"},
      {"workers:\n  - {id: 1}\nlinks:\n  - {from: 1, to: 1}\n", "leads to where it comes from"},
      {"workers:\n  - {id: 1}\n  - {id: 2}\nlinks:\n  - {from: 1, to: 2, transport: ftp}\n",
       "link is not mpi or zmq: ftp"},
      {"workers:\n  - {id: 1, gpus: [{peers: [{path: system}]}]}\n",
       "workers[0].gpus[0].peers[0].gpu is missing"},
      {"workers:\n  - {id: 1, gpus: [{peers: [{gpu: 0}]}]}\n",
       "worker 1, GPU 0: there is no other GPU 0"},
      {"workers:\n  - {id: 1, gpus: [{peers: [{gpu: 1}, {gpu: 1}]}, {}]}\n",
       "worker 1, GPU 0: peer 1 stands twice"},
      {"workers:\n  - {id: 1, gpus: [{}, {peers: [{gpu: 0, path: far}]}]}\n",
       "path is none of unknown, same board, PCIe switch"},
      {"workers:\n  - {id: 1, gpus: [{upload_gb_per_s: 0}]}\n",
       "worker 1, GPU 0: upload_bytes_per_s is not above 0"},
      {"workers:\n  - {id: 1, gpus: [{}], gpu: 1}\n",
       "worker 1: computes on a GPU that there is none of: gpu=1 gpus=1"},
      {"workers:\n  - {id: 1, gpus: [{}], gpu: -1}\n", "workers[0].gpu is not a whole number"},
      {"workers: 3\n", "workers is not a list"},
      {"workers:\n  - 3\n", "workers[0] is not a mapping"},
  };
  for (const BadCase& bad : cases) {
    const auto read = ClusterFromYaml(bad.yaml);
    ASSERT_FALSE(read.ok()) << bad.yaml;
    EXPECT_NE(read.status().message().find(bad.message), std::string::npos)
        << bad.yaml << read.status();
  }
}

TEST(ClusterYaml, AFileOverTheLimitIsRefusedUnread) {
  EXPECT_FALSE(ClusterFromYaml(std::string(kMaxClusterYamlBytes + 1, '#')).ok());
}

TEST(ClusterYaml, DeepNestingIsAnErrorAndNoCrash) {
  EXPECT_FALSE(ClusterFromYaml(std::string(100000, '[')).ok());
  EXPECT_FALSE(ClusterFromYaml("a: &a [*a, *a]\nworkers: *a\n").ok());
}

}  // namespace
}  // namespace thermocline::placement
