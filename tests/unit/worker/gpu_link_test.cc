// Stages on GPUs that follow each other compute by NCCL what they compute by way of the hosts. GPUs
// are threads and memory that the host cannot touch, and NCCL is a library that stands for it; the
// workers' own code does the rest.
#include "worker/gpu_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

#include "tests/support/fake_gpu/fake_member.h"
#include "tests/support/patience.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using testing::FakeMember;
using testing::GroupCluster;
using testing::GroupEntry;
using testing::GroupLayout;
using testing::GroupResults;
using testing::kPatience;
using testing::MemberDevice;
using testing::SetFaults;
using testing::Sums;
using testing::TempFile;

// A stop is faster on any machine; what it interrupts would take a minute, or half an hour.
constexpr Duration kSoon = std::chrono::seconds(50);

MemberDevice AlwaysNccl(int gpu) {
  MemberDevice member = FakeMember(gpu);
  member.ways.always_nccl = true;
  return member;
}

class GpuLink : public ::testing::Test {
 protected:
  GpuLink()
      : file_(testing::TinyModel(
            {.arch = "arcee", .n_layer = testing::kGroupLayers, .n_ff = testing::kGroupNeurons})) {
    SetFaults({});
  }
  ~GpuLink() override {
    SetFaults({});
    EXPECT_EQ(testing::tc_fake_gpu_live_comms(), 0) << "a communicator was forgotten";
    EXPECT_EQ(testing::tc_fake_gpu_live_objects(), 0);
  }
  GroupResults Served(const GroupLayout& layout, Sums sums) const {
    GroupCluster cluster(file_, layout, model::FfnMode::kExact, AlwaysNccl);
    return ServedBy(&cluster, sums);
  }

  const TempFile file_;
};

GroupLayout Stages(std::vector<bool> on_gpu) {
  return {.name = "stages", .on_gpu = std::move(on_gpu), .in_stages = true};
}

// Activations come as they are, whatever their way; also between stages of which one is on a CPU.
TEST_F(GpuLink, StagesGiveTheBitsOfTheHostsLinks) {
  const GroupResults by_hosts = Served(Stages({true, true, true}), Sums::kByLinks);
  GroupLayout layout = Stages({true, true, true});
  for (const int micro_batches : {1, 2}) {
    layout.micro_batches = micro_batches;
    EXPECT_EQ(Served(layout, Sums::kByGroup), by_hosts) << "batches " << micro_batches;
  }
  EXPECT_EQ(Served(Stages({false, true, true}), Sums::kByGroup),
            Served(Stages({false, true, true}), Sums::kByLinks));
}

TEST_F(GpuLink, ActivationsDoNotCrossTheHosts) {
  const auto sent = [&](Sums sums) {
    GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, AlwaysNccl);
    cluster.Start(sums);
    const GroupResults first = cluster.Serve();
    const uint64_t with_trial = cluster.link_bytes_sent(0);
    cluster.Submit(6, {GroupEntry({1}, 12, {1, 2, 3, 4, 5, 6, 7, 8})});
    cluster.AwaitResult();
    const uint64_t after = cluster.link_bytes_sent(0);
    cluster.End();
    return after - with_trial;
  };
  EXPECT_LT(sent(Sums::kByGroup), sent(Sums::kByLinks) / 4) << "what remains are headers";
}

// Whichever way is found to be faster, of the sizes that were tried.
TEST_F(GpuLink, WhatIsMeasuredChangesNoBits) {
  GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, FakeMember);
  EXPECT_EQ(ServedBy(&cluster, Sums::kByGroup), Served(Stages({true, true, true}), Sums::kByLinks));
}

// It is told like the loss of a host's link, and the next plan has another link.
TEST_F(GpuLink, ALostPeerIsNamedAndTheNextPlanGoesOn) {
  const GroupResults wanted = Served(Stages({true, true, true}), Sums::kByLinks);
  GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, AlwaysNccl);
  cluster.Start(Sums::kByGroup);
  EXPECT_EQ(cluster.Serve(), wanted);
  SetFaults({.async_error = 6});
  const TimePoint until = SteadyClock().Now() + kPatience;
  while (cluster.n_lost() < 3 && SteadyClock().Now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(cluster.n_lost(), 3);
  EXPECT_EQ(cluster.n_failures(), 0);
  SetFaults({});
  std::vector<HeldModel> held;
  for (size_t m = 0; m < 3; ++m) held.push_back(cluster.loop(m).End());
  const auto messages = cluster.StageMessages(Sums::kByGroup);
  for (size_t m = 0; m < 3; ++m) cluster.StartOne(m, messages[m], std::move(held[m]));
  for (size_t m = 0; m < 3; ++m) cluster.AwaitReady();
  EXPECT_EQ(cluster.Serve(), wanted);
}

// Its worker ends with that, and blames no neighbour whose link may seem lost.
TEST_F(GpuLink, ACardsOwnLossIsNotItsNeighbours) {
  // More than loading and the trial take, and less than the steps below.
  constexpr int64_t kOps = 300;
  const auto one_is_lost = [](int gpu) {
    MemberDevice member = testing::MemberLostAfter(gpu == 1 ? kOps : -1, gpu);
    member.ways.always_nccl = true;
    return member;
  };
  GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, one_is_lost);
  cluster.Start(Sums::kByGroup);
  cluster.MayFail();
  cluster.Submit(1, {GroupEntry({1}, 0, {5, 17})});
  for (int64_t i = 0; i < 50 && cluster.n_failures() + cluster.n_lost() == 0; ++i) {
    cluster.Submit(static_cast<uint64_t>(2 + i), {GroupEntry({1}, 2 + i, {5})});
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const TimePoint until = SteadyClock().Now() + kPatience;
  while (cluster.n_failures() == 0 && SteadyClock().Now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(cluster.n_failures(), 1);
}

// NCCL says of whose end an error is: only what it calls a remote one is a neighbour's.
TEST_F(GpuLink, AnErrorOfTheOwnSystemIsNotItsNeighbours) {
  for (const int code : {comm::kNcclCudaError, comm::kNcclSystemError, comm::kNcclInternalError}) {
    GroupCluster cluster(file_, Stages({false, true, true}), model::FfnMode::kExact, AlwaysNccl);
    cluster.Start(Sums::kByGroup);
    cluster.Submit(1, {GroupEntry({1}, 0, {5, 17})});
    cluster.AwaitResult();
    cluster.MayFail();
    SetFaults({.async_error = code, .async_rank = 0});  // of the second stage, which sends
    const TimePoint until = SteadyClock().Now() + kPatience;
    while (cluster.n_failures() + cluster.n_lost() < 2 && SteadyClock().Now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(cluster.n_failures(), 1) << code;
    EXPECT_EQ(cluster.n_lost(), 1) << "the third stage loses the second";
    EXPECT_THAT(cluster.failure().message(),
                ::testing::AllOf(::testing::StartsWith("apart"),
                                 ::testing::HasSubstr("error of the fake (the last word) code=")));
    SetFaults({});
    cluster.End();
  }
}

TEST_F(GpuLink, AStageThatNeverComesKeepsNobodyFromStopping) {
  GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, AlwaysNccl);
  const auto messages = cluster.StageMessages(Sums::kByGroup);
  for (size_t m = 0; m < 2; ++m) cluster.StartOne(m, messages[m]);
  for (size_t m = 0; m < 2; ++m) cluster.AwaitReady();
  EXPECT_LT(cluster.End().count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

TEST_F(GpuLink, WorkThatNeverEndsKeepsNobodyFromStopping) {
  GroupCluster cluster(file_, Stages({true, true, true}), model::FfnMode::kExact, AlwaysNccl);
  cluster.Start(Sums::kByGroup);
  cluster.Submit(1, {GroupEntry({1}, 0, {5, 17})});
  cluster.AwaitResult();
  SetFaults({.work_hangs = true});
  cluster.Submit(2, {GroupEntry({1}, 2, {5})});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // most likely it waits by now
  EXPECT_LT(cluster.End().count(), kSoon.count());
  EXPECT_EQ(cluster.n_failures(), 0);
}

TEST(CheckGroup, AGpuIsMetInAStageThatIsThere) {
  proto::AssignPlan message;
  message.stage = 0;
  message.plan.stages.resize(1);
  message.next_nccl_id = "there";
  EXPECT_EQ(CheckGroup(message).code(), StatusCode::kDataLoss);
  message.next_address = "loopback:2";
  EXPECT_TRUE(CheckGroup(message).ok());
  message.previous_nccl_id = "there";
  EXPECT_THAT(CheckGroup(message).message(), ::testing::HasSubstr("a stage that is not there"));
}

}  // namespace
}  // namespace thermocline::worker
