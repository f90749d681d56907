#include "placement/fit_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

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
  Result<FittedCluster> FitAll() const { return FitCluster(given_, joined_, LinkKind::kZmq); }
  // Of a file that knows all who joined and nobody else.
  Result<ClusterProfile> Fit() const {
    TC_ASSIGN_OR_RETURN(FittedCluster fitted, FitAll());
    EXPECT_EQ(fitted.note, "");
    EXPECT_TRUE(fitted.unknown.empty());
    return std::move(fitted.cluster);
  }

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
                              .download_bytes_per_s = Figure::Measured(6),
                              .copy_s = Figure::Measured(1e-6),
                              .peers = {{.gpu = 1, .path = GpuPath::kSystem}}},
                             {.name = "B", .memory_bytes = 80, .free_bytes = 80}};
  joined_.workers[0].gpu = 1;
  joined_.workers[1].gpus = {{.name = "C"}};
  joined_.workers[1].gpu = 0;
  joined_.workers[1].nccl_version = "2.28.9";
  joined_.workers[1].neuron_rows = model::NeuronRows::kFp8E4M3;
  given_.workers[0].neuron_rows = model::NeuronRows::kFp8E4M3;
  given_.workers[0].gpus = {{.memory_bytes = 90,
                             .free_bytes = 60,
                             .upload_bytes_per_s = {4, Origin::kGiven},
                             .download_bytes_per_s = Figure::Assumed(1)}};
  const auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].gpus,
            (std::vector<GpuInfo>{{.name = "A",
                                   .memory_bytes = 80,
                                   .free_bytes = 60,
                                   .upload_bytes_per_s = {4, Origin::kGiven},
                                   .download_bytes_per_s = Figure::Measured(6),
                                   .copy_s = Figure::Measured(1e-6)}}))
      << "the second is left out, as a peer too";
  EXPECT_EQ(cluster->workers[0].gpu, -1) << "which it computes on";
  EXPECT_EQ(cluster->workers[1].gpus, joined_.workers[1].gpus);
  EXPECT_EQ(cluster->workers[1].gpu, 0);
  EXPECT_EQ(cluster->workers[1].nccl_version, "2.28.9");
  EXPECT_EQ(cluster->workers[0].neuron_rows, model::NeuronRows::kAsIs) << "as it was started";
  EXPECT_EQ(cluster->workers[1].neuron_rows, model::NeuronRows::kFp8E4M3);
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

// But those of rows in 8 bits, which a file that was measured without them lacks.
TEST_F(FitClusterTest, RatesOfRowsIn8BitsAreThoseOfTheWorkerWhereTheFileHasNone) {
  constexpr DType kFp8 = DType::kFp8E4M3;
  const auto rate = [](DType dtype, double per_s) {
    return std::pair(WeightRate{.dtype = dtype, .bytes_per_s = Figure::Measured(per_s)},
                     ComputeRate{.dtype = dtype, .flops_per_s = Figure::Measured(per_s)});
  };
  const auto [given_f16, given_f16_products] = rate(DType::kF16, 1e9);
  const auto [given_fp8, given_fp8_products] = rate(kFp8, 2e9);
  const auto [joined_f16, joined_f16_products] = rate(DType::kF16, 3e9);
  const auto [joined_fp8, joined_fp8_products] = rate(kFp8, 4e9);
  WorkerProfile &given = given_.workers[0], &joined = joined_.workers[0];
  joined.neuron_rows = model::NeuronRows::kFp8E4M3;
  joined.weight_rates = {joined_f16, joined_fp8};
  joined.compute_rates = {joined_f16_products, joined_fp8_products};

  given.weight_rates = {given_f16};
  given.compute_rates = {given_f16_products};
  auto cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].weight_rates, (std::vector{given_f16, joined_fp8}));
  EXPECT_EQ(cluster->workers[0].compute_rates,
            (std::vector{given_f16_products, joined_fp8_products}));

  given.weight_rates = {given_f16, given_fp8};
  given.compute_rates.clear();
  cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].weight_rates, given.weight_rates);
  EXPECT_TRUE(cluster->workers[0].compute_rates.empty()) << "it has none to compare with";

  joined.neuron_rows = model::NeuronRows::kAsIs;
  given.weight_rates = {given_f16};
  cluster = Fit();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->workers[0].weight_rates, given.weight_rates);
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
  for (auto workers : {std::vector<WorkerProfile>{Worker(1, "c")},
                       {Worker(1, "b1"), Worker(2, "c")},
                       {Worker(1, "c"), Worker(3, "")}}) {
    given_.workers = std::move(workers);
    const Status status = FitAll().status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("the cluster file is of other workers: it has 1"));
    EXPECT_THAT(status.message(), HasSubstr("; joined have 1 on a, 2 on b"));
    EXPECT_THAT(status.message(), HasSubstr(": without --cluster they are measured"));
  }
}

// As one that was saved again when somebody had joined, and is given at the next start.
TEST_F(FitClusterTest, WhoIsNotHereIsIgnoredWithItsLinksAndNamed) {
  given_.workers.push_back(Worker(3, "c", 50));
  given_.links = {{.from = {1}, .to = {2}, .latency_s = {5e-6, Origin::kGiven}},
                  {.from = {1}, .to = {3}, .transport = LinkKind::kMpi},
                  {.from = {3}, .to = {2}, .transport = LinkKind::kMpi}};
  const auto fitted = FitAll();
  ASSERT_TRUE(fitted.ok()) << fitted.status();
  EXPECT_EQ(fitted->note, "what it says of workers that are not here is ignored: 3 on c");
  EXPECT_TRUE(fitted->unknown.empty());
  ASSERT_EQ(fitted->cluster.workers.size(), 2u);
  EXPECT_EQ(fitted->cluster.workers[0].read_bytes_per_s.value, 10e9);
  ASSERT_EQ(fitted->cluster.links.size(), 1u);
  EXPECT_EQ(fitted->cluster.links[0].to, WorkerId{2});
}

TEST_F(FitClusterTest, WhoIsNotInTheFileIsAsItJoinedAndNamed) {
  joined_.workers.push_back(Worker(3, "c", 7));
  given_.workers[1].host = "d";  // instead of b
  given_.links = {{.from = {1}, .to = {2}, .latency_s = {5e-6, Origin::kGiven}}};
  const auto fitted = FitAll();
  ASSERT_TRUE(fitted.ok()) << fitted.status();
  EXPECT_EQ(fitted->note,
            "what it says of workers that are not here is ignored: 2 on d; workers that it does "
            "not know are measured: 2 on b, 3 on c");
  EXPECT_EQ(fitted->unknown, (std::set<WorkerId>{{2}, {3}}));
  ASSERT_EQ(fitted->cluster.workers.size(), 3u);
  EXPECT_EQ(fitted->cluster.workers[0].read_bytes_per_s.value, 10e9);
  EXPECT_EQ(fitted->cluster.workers[1], joined_.workers[1]);
  EXPECT_EQ(fitted->cluster.workers[2], joined_.workers[2]);
  EXPECT_TRUE(fitted->cluster.links.empty()) << "its link leads to somebody else";
}

// Several on one host: by id where that fits, else in the order of their ids.
TEST_F(FitClusterTest, WorkersOfOneHostAreTakenInTheirOrder) {
  given_.workers = {Worker(1, "a", 11), Worker(2, "a", 12), Worker(3, "b", 13), Worker(4, "a", 14)};
  joined_.workers = {Worker(1, "b"), Worker(2, "a"), Worker(3, "a")};
  const auto fitted = FitAll();
  ASSERT_TRUE(fitted.ok()) << fitted.status();
  EXPECT_EQ(fitted->cluster.workers[0].read_bytes_per_s.value, 13e9);
  EXPECT_EQ(fitted->cluster.workers[1].read_bytes_per_s.value, 12e9);
  EXPECT_EQ(fitted->cluster.workers[2].read_bytes_per_s.value, 11e9);
  EXPECT_EQ(fitted->note, "what it says of workers that are not here is ignored: 4 on a");
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
