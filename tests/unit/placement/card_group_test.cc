// Who is in a group of cards, and whether heads come by it.
#include "placement/card_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline::placement {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<NeuronRange> kSome = {{0, 0}, {64, 128}}, kNone = {{0, 0}, {0, 0}};

// Workers 1 to 4 on cards of one host; worker 1 leads the others, which have neurons.
class CardGroupTest : public ::testing::Test {
 protected:
  CardGroupTest() {
    stage_.lead = {1};
    for (uint64_t id = 1; id <= 4; ++id) {
      WorkerProfile worker{.id = {id}, .host = "box"};
      worker.gpu = static_cast<int>(id);
      worker.nccl_version = "2.28.9";
      cluster_.workers.push_back(std::move(worker));
      if (id > 1) stage_.helpers.push_back({.worker = {id}, .neurons = kSome});
    }
  }
  CardGroup Group() const { return GroupOf(stage_, cluster_); }
  WorkerProfile& Worker(size_t id) { return cluster_.workers[id - 1]; }

  StagePlan stage_;
  ClusterProfile cluster_;
};

TEST_F(CardGroupTest, IsOfCardsWithOneVersionOfNccl) {
  EXPECT_THAT(Group().helpers, ElementsAre(0, 1, 2));
  Worker(2).host = "another";
  EXPECT_THAT(Group().helpers, ElementsAre(0, 1, 2));
  Worker(3).nccl_version = "2.27.3";
  EXPECT_THAT(Group().helpers, ElementsAre(0, 2));
  EXPECT_TRUE(Group().Has(2));
  EXPECT_FALSE(Group().Has(1));
  Worker(2).gpu = -1;
  EXPECT_THAT(Group().helpers, ElementsAre(2));
  Worker(1).nccl_version = "";
  EXPECT_THAT(Group().helpers, IsEmpty());
}

TEST_F(CardGroupTest, TakesOneMemberOfEachCard) {
  Worker(3).gpu = Worker(2).gpu;
  EXPECT_THAT(Group().helpers, ElementsAre(0, 2));
  Worker(4).gpu = Worker(1).gpu;
  EXPECT_THAT(Group().helpers, ElementsAre(0));
  Worker(4).host = "another";
  EXPECT_THAT(Group().helpers, ElementsAre(0, 2));
}

TEST_F(CardGroupTest, HeadsComeByItWhereAllHaveSome) {
  EXPECT_FALSE(Group().has_heads);
  stage_.helpers[0].heads = {0, 1};
  stage_.helpers[1].heads = {1, 2};
  EXPECT_FALSE(Group().has_heads);
  Worker(4).gpu = -1;
  EXPECT_TRUE(Group().has_heads);
}

// It would keep the sums of all from the group.
TEST_F(CardGroupTest, WhoHasHeadsOnlyIsLeftOut) {
  stage_.helpers[1] = {.worker = {3}, .neurons = kNone, .heads = {0, 1}};
  EXPECT_THAT(Group().helpers, ElementsAre(0, 2));
  EXPECT_FALSE(Group().has_heads);
  stage_.helpers[0].heads = {1, 2};
  stage_.helpers[2].heads = {2, 3};
  EXPECT_TRUE(Group().has_heads);
  for (HelperPlan& helper : stage_.helpers) helper.neurons = kNone;
  EXPECT_THAT(Group().helpers, ElementsAre(0, 1, 2));
  EXPECT_TRUE(Group().has_heads);
}

}  // namespace
}  // namespace thermocline::placement
