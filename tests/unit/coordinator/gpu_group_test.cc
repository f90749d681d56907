#include "coordinator/gpu_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace thermocline::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Workers 1 to 4, each on a card of its own with the same NCCL; worker 1 leads the others.
class GpuGroupTest : public ::testing::Test {
 protected:
  GpuGroupTest() {
    for (uint64_t id = 1; id <= 4; ++id) {
      workers_[{id}] = {
          .nccl_id = "here", .nccl_version = "2.28.9", .gpu_uuid = std::to_string(id)};
      if (id > 1) stage_.helpers.push_back({.worker = {id}});
    }
    stage_.lead = {1};
  }
  GpuGroup Find() const {
    return FindGpuGroup(stage_, [&](WorkerId worker) -> const proto::Hello* {
      const auto found = workers_.find(worker);
      return found == workers_.end() ? nullptr : &found->second;
    });
  }
  proto::Hello& worker(uint64_t id) { return workers_.at({id}); }

  placement::StagePlan stage_;
  std::map<WorkerId, proto::Hello> workers_;
};

TEST_F(GpuGroupTest, HelpersOnCardsOfTheirOwnAreInTheGroup) {
  EXPECT_THAT(Find().helpers, ElementsAre(0, 1, 2));
  EXPECT_THAT(Find().notes, IsEmpty());
}

TEST_F(GpuGroupTest, OfCpusNothingIsSaid) {
  worker(3) = {};
  EXPECT_THAT(Find().helpers, ElementsAre(0, 2));
  EXPECT_THAT(Find().notes, IsEmpty());
  worker(1) = {};
  EXPECT_THAT(Find().helpers, IsEmpty());
  EXPECT_THAT(Find().notes, IsEmpty());
}

TEST_F(GpuGroupTest, WhoeverCannotBeInItIsNamedWithTheReason) {
  worker(2).nccl_version = "";
  worker(3).nccl_version = "2.27.3";
  worker(4).gpu_uuid = "1";
  EXPECT_THAT(Find().helpers, IsEmpty());
  constexpr char kBy[] = "'s GPU go to worker 1 by way of the host: ";
  EXPECT_THAT(
      Find().notes,
      ElementsAre(std::string("sums of worker 2") + kBy + "it has no NCCL",
                  std::string("sums of worker 3") + kBy +
                      "its NCCL is another than the lead's: version=2.27.3 lead=2.28.9",
                  std::string("sums of worker 4") + kBy + "another member is on the same card"));
}

TEST_F(GpuGroupTest, WhoHasHeadsOnlyIsNotInAGroupThatAddsSums) {
  const std::vector<placement::NeuronRange> some = {{64, 128}, {64, 128}}, none = {{0, 0}, {0, 0}};
  stage_.neurons = {{0, 64}, {0, 64}};
  stage_.heads = {0, 1};
  for (placement::HelperPlan& helper : stage_.helpers) helper = {helper.worker, some, {1, 2}};
  EXPECT_THAT(Find().helpers, ElementsAre(0, 1, 2));
  EXPECT_THAT(Find().notes, IsEmpty());
  stage_.helpers[1].neurons = none;
  EXPECT_THAT(Find().helpers, ElementsAre(0, 2));
  EXPECT_THAT(Find().notes,
              ElementsAre("heads of worker 3's GPU go to worker 1 by way of the host: it has no "
                          "neurons, whose sums others add"));
}

TEST_F(GpuGroupTest, WhatAMemberKeepsFromTheGroupIsSaid) {
  const std::vector<placement::NeuronRange> some = {{64, 128}, {64, 128}};
  stage_.neurons = {{0, 64}, {0, 64}};
  stage_.heads = {0, 1};
  for (placement::HelperPlan& helper : stage_.helpers) helper = {helper.worker, some, {1, 2}};
  stage_.helpers[1].heads = {};
  stage_.helpers[2].neurons[1] = {0, 0};
  EXPECT_THAT(Find().helpers, ElementsAre(0, 1, 2));
  EXPECT_THAT(Find().notes,
              ElementsAre("sums of 1 layer of the GPUs led by worker 1 go by way of the hosts: "
                          "not all of them have neurons there, as worker 4",
                          "heads of the GPUs led by worker 1 go by way of the hosts: not all of "
                          "them have some, as worker 3"));
}

TEST_F(GpuGroupTest, TwoHelpersOnOneCardAreNotBothInIt) {
  worker(4).gpu_uuid = "3";
  EXPECT_THAT(Find().helpers, ElementsAre(0, 1));
  EXPECT_EQ(Find().notes.size(), 1u);
}

TEST_F(GpuGroupTest, ALeadWithoutNcclOrAPlaceToMeetHasNone) {
  worker(1).nccl_id = "";
  EXPECT_THAT(Find().helpers, IsEmpty());
  EXPECT_EQ(Find().notes.size(), 3u);
  worker(1).nccl_version = "";
  EXPECT_THAT(Find().notes.front(), ::testing::HasSubstr("the lead has no NCCL"));
}

TEST_F(GpuGroupTest, WorkersThatAreGoneAreInNone) {
  workers_.erase({2});
  EXPECT_THAT(Find().helpers, ElementsAre(1, 2));
  workers_.erase({1});
  EXPECT_THAT(Find().helpers, IsEmpty());
}

// Two stages, led by workers 1 and 2.
class GpuLinkTest : public GpuGroupTest {
 protected:
  GpuLinkTest() {
    plan_.stages = {{.lead = {1}}, {.lead = {2}}};
    worker(1).nccl_link_id = "there";
  }
  GpuLink FindLink() const {
    return FindGpuLink(plan_, 0, [&](WorkerId id) -> const proto::Hello* {
      const auto found = workers_.find(id);
      return found == workers_.end() ? nullptr : &found->second;
    });
  }
  placement::Plan plan_;
};

TEST_F(GpuLinkTest, StagesOnCardsOfTheirOwnMeetWhereTheFirstSays) {
  EXPECT_EQ(FindLink().nccl_id, "there");
  EXPECT_EQ(FindLink().note, "");
}

TEST_F(GpuLinkTest, WhatKeepsThemApartIsSaidWhereBothAreOnGpus) {
  const auto expect = [&](const std::string& why) {
    EXPECT_EQ(FindLink().nccl_id, "");
    EXPECT_EQ(FindLink().note,
              "activations of worker 1's GPU go to worker 2 by way of the hosts: " + why);
  };
  worker(1).nccl_link_id = "";
  expect("its NCCL has no place to meet");
  plan_.wire = DType::kF16;
  expect("the plan rounds them on their way: wire=F16");
  worker(2).gpu_uuid = "1";
  expect("both are on the same card");
  worker(2).nccl_version = "2.27.3";
  expect("NCCL of two versions: from=2.28.9 to=2.27.3");
  worker(2).nccl_version = "";
  expect("there is no NCCL at both ends");
}

TEST_F(GpuLinkTest, OfCpusAndOfWorkersThatAreGoneNothingIsSaid) {
  worker(2).gpu_uuid = "";
  EXPECT_EQ(FindLink().note, "");
  workers_.erase({2});
  EXPECT_EQ(FindLink().nccl_id + FindLink().note, "");
}

}  // namespace
}  // namespace thermocline::coordinator
