#include "placement/fit_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::placement {
namespace {

using ::testing::HasSubstr;

WorkerProfile Worker(uint64_t id, std::string host, double gb_per_s = 0) {
  WorkerProfile worker{.id = {id}, .host = std::move(host), .n_threads = 2, .memory_bytes = kGiB};
  if (gb_per_s > 0) worker.read_bytes_per_s = {gb_per_s * 1e9, Origin::kGiven};
  return worker;
}

class FitClusterTest : public ::testing::Test {
 protected:
  Result<ClusterProfile> Fit() const { return FitCluster(given_, joined_, LinkKind::kZmq); }

  ClusterProfile given_{{Worker(1, "a", 10), Worker(2, "b")}, {}};
  ClusterProfile joined_{{Worker(1, "a", 3), Worker(2, "b", 4)}, {}};
};

TEST_F(FitClusterTest, WhatTheFileSaysCountsAndWhatItLacksIsMeasured) {
  given_.workers[0].memory_bytes = 2 * kGiB;
  given_.workers[1].memory_bytes = 0;
  given_.links = {{.from = {1}, .to = {2}, .latency_s = {5e-6, Origin::kGiven}}};
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].read_bytes_per_s.value, 10e9);
  EXPECT_EQ(cluster->workers[1].read_bytes_per_s.value, 4e9);
  EXPECT_EQ(cluster->workers[0].memory_bytes, kGiB) << "no more than it offers";
  EXPECT_EQ(cluster->workers[1].memory_bytes, kGiB);
  ASSERT_EQ(cluster->links.size(), 1u);
  EXPECT_EQ(cluster->links[0].latency_s.value, 5e-6);
}

TEST_F(FitClusterTest, GpusAreThoseThatAreThereWithTheNumbersGiven) {
  joined_.workers[0].gpus = {{.name = "A",
                              .memory_bytes = 80,
                              .free_bytes = 70,
                              .upload_bytes_per_s = Figure::Assumed(5),
                              .launch_s = Figure::Measured(1e-6),
                              .peers = {{.gpu = 1, .path = GpuPath::kSystem}}},
                             {.name = "B", .memory_bytes = 80, .free_bytes = 80}};
  joined_.workers[0].gpu = 1;
  joined_.workers[1].gpus = {{.name = "C"}};
  joined_.workers[1].gpu = 0;
  joined_.workers[1].nccl_version = "2.28.9";
  given_.workers[0].gpus = {
      {.memory_bytes = 90, .free_bytes = 60, .upload_bytes_per_s = {4, Origin::kGiven}}};
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].gpus,
            (std::vector<GpuInfo>{{.name = "A",
                                   .memory_bytes = 80,
                                   .free_bytes = 60,
                                   .upload_bytes_per_s = {4, Origin::kGiven},
                                   .launch_s = Figure::Measured(1e-6)}}))
      << "the second is left out, as a peer too";
  EXPECT_EQ(cluster->workers[0].gpu, -1) << "which it computes on";
  EXPECT_EQ(cluster->workers[1].gpus, joined_.workers[1].gpus);
  EXPECT_EQ(cluster->workers[1].gpu, 0);
  EXPECT_EQ(cluster->workers[1].nccl_version, "2.28.9");
  given_.workers[1].gpus.resize(2);
  EXPECT_THAT(Fit().status().message(),
              HasSubstr("the cluster file has 2 GPUs for worker 2 on b, which sees 1"));
}

// A rate per type that was measured would outrank the one that somebody wrote down.
TEST_F(FitClusterTest, RatesComeFromOneSource) {
  for (WorkerProfile& worker : joined_.workers) {
    worker.weight_rates = {{.bytes_per_s = Figure::Measured(7e9)}};
    worker.op_overhead_s = Figure::Measured(3e-6);
  }
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_TRUE(cluster->workers[0].weight_rates.empty());
  EXPECT_EQ(cluster->workers[0].op_overhead_s, Figure::Measured(3e-6));
  EXPECT_EQ(cluster->workers[1].weight_rates, joined_.workers[1].weight_rates);
}

TEST_F(FitClusterTest, WhatWasAssumedGivesWayToWhatIsMeasured) {
  given_.workers[1].read_bytes_per_s = Figure::Assumed(20e9);
  joined_.workers[1].read_bytes_per_s = Figure::Measured(4e9);
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[1].read_bytes_per_s, Figure::Measured(4e9));
}

TEST_F(FitClusterTest, SpeedsThatNobodyKnowsAreAssumedAndSaidToBe) {
  AssumeRates(&given_);
  EXPECT_EQ(given_.workers[0].read_bytes_per_s, (Figure{10e9, Origin::kGiven}));
  EXPECT_EQ(given_.workers[1].read_bytes_per_s, Figure::Assumed(20e9));
}

TEST_F(FitClusterTest, WorkersThatJoinedInAnotherOrderAreKnownByTheirHosts) {
  joined_.workers = {Worker(1, "b", 4), Worker(2, "a", 3)};
  given_.links = {{.from = {1}, .to = {2}, .latency_s = {5e-6, Origin::kGiven}}};
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].id, WorkerId{1});
  EXPECT_EQ(cluster->workers[0].host, "b");
  EXPECT_EQ(cluster->workers[1].read_bytes_per_s.value, 10e9);
  EXPECT_EQ(cluster->links[0].from, WorkerId{2});
  EXPECT_EQ(cluster->links[0].to, WorkerId{1});
}

TEST_F(FitClusterTest, HostsThatAreNotGivenAreAny) {
  given_.workers = {Worker(1, "", 10), Worker(2, "")};
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[1].host, "b");
}

TEST_F(FitClusterTest, AnotherClusterIsRefusedWithBothNamed) {
  for (auto workers : {std::vector<WorkerProfile>{Worker(1, "a")},
                       {Worker(1, "a"), Worker(2, "c")},
                       {Worker(1, "a"), Worker(2, "a")},
                       {Worker(1, ""), Worker(3, "")}}) {
    given_.workers = std::move(workers);
    const Status status = Fit().status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("the cluster file is of other workers: it has 1"));
    EXPECT_THAT(status.message(), HasSubstr("; joined have 1 on a, 2 on b"));
  }
}

TEST_F(FitClusterTest, NumbersOfAnotherTransportAreRefused) {
  given_.links = {{.from = {1}, .to = {2}, .transport = LinkKind::kMpi}};
  EXPECT_THAT(Fit().status().message(), HasSubstr("link 1 -> 2 is for mpi, and links will be zmq"));
}

TEST_F(FitClusterTest, EachPairHasATransportOfItsOwn) {
  given_ = {{Worker(1, "b"), Worker(2, "a")}, {}};  // the ids of those who joined the other way
  given_.links = {{.from = {1}, .to = {2}, .transport = LinkKind::kMpi},
                  {.from = {2}, .to = {1}, .transport = LinkKind::kZmq}};
  const PairTransport from_second(
      [](WorkerId from, WorkerId) { return from.value == 2 ? LinkKind::kMpi : LinkKind::kZmq; });
  EXPECT_TRUE(FitCluster(given_, joined_, from_second).ok());
  given_.links[1].transport = LinkKind::kMpi;
  EXPECT_THAT(FitCluster(given_, joined_, from_second).status().message(),
              HasSubstr("link 2 -> 1 is for mpi, and links will be zmq"));
}

}  // namespace
}  // namespace thermocline::placement
