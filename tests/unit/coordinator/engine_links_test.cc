// Which transport joins whom, where some workers are MPI ranks and some are not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/coordinator/engine_change_fixture.h"

namespace thermocline::coordinator {
namespace {

using placement::LinkChoice;
using placement::LinkKind;
using ::testing::HasSubstr;

// Worker 3, which has joined from outside, helps worker 1.
constexpr char kHelpedByThird[] = R"({"stages":[
    {"lead":1,"layers":[0,2],"helpers":[{"worker":3,"neurons":[64,128]}]},
    {"lead":2,"layers":[2,4]}]})";

// Workers 1 and 2 are MPI ranks; another comes by itself once they serve.
class EngineLinksTest : public EngineChangeTest {
 protected:
  EngineLinksTest() {
    options_.plan.link = LinkKind::kMpi;
    options_.plan.link_by_pair = true;
    options_.replan = ReplanMode::kNow;
  }

  proto::Hello RankOf(uint64_t id) const {
    proto::Hello hello = HelloOf(id);
    hello.mpi_address = Str("mpi:", id);
    return hello;
  }
  void Serve() {
    {
      const MutexLock lock(mutex_);
      beats_ = true;
    }
    StartEngine();
    for (const uint64_t id : {1, 2}) mailbox_.Post(PeerOf(id), RankOf(id));
    ASSERT_TRUE(Eventually([&] {
      const ServiceState state = engine_->status().state;
      return state == ServiceState::kReady || state == ServiceState::kFailed;
    }));
    ASSERT_EQ(engine_->status().state, ServiceState::kReady) << engine_->status().failure;
  }
  void JoinThird() {
    proto::Hello hello = HelloOf(3);
    hello.wanted_id.reset();
    mailbox_.Post(PeerOf(3), hello);
    ASSERT_TRUE(Eventually([&] { return engine_->status().workers.size() == 3; }));
  }
  proto::AssignPlan AssignmentOf(uint64_t worker) {
    const MutexLock lock(mutex_);
    return assignments_[PeerOf(worker)];
  }
};

TEST_F(EngineLinksTest, RanksMeasureAndTalkOverMpi) {
  Serve();
  EXPECT_EQ(AssignmentOf(1).next_address, "mpi:2");
  EXPECT_EQ(AssignmentOf(1).plan.stages[0].to_next, LinkChoice{});
  const MutexLock lock(mutex_);
  for (const auto& [to, probe] : probes_) EXPECT_EQ(probe.transport, LinkKind::kMpi);
}

TEST_F(EngineLinksTest, WhoIsNoRankIsReachedByZmqInTheSamePlan) {
  Serve();
  JoinThird();
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("measured between steps"); }));
  ASSERT_TRUE(engine_->Replan(kHelpedByThird).ok());
  ASSERT_TRUE(Reaches(2));
  const proto::AssignPlan lead = AssignmentOf(1);
  EXPECT_EQ(lead.next_address, "mpi:2");
  EXPECT_EQ(lead.helper_addresses, (std::vector<std::string>{"tcp://node3:1"}));
  EXPECT_EQ(lead.plan.stages[0].helpers[0].to_lead.link, LinkKind::kZmq);
  EXPECT_EQ(AssignmentOf(2).previous_address, "mpi:1");
  EXPECT_EQ(AssignmentOf(3).lead_address, "tcp://node1:1");
  const PlanOutcome outcome = observer_.outcome();
  const placement::LinkProfile* const link = outcome.cluster.FindLink({1}, {3});
  EXPECT_EQ(link->transport, LinkKind::kZmq);
  EXPECT_EQ(link->latency_s.origin, placement::Origin::kMeasured);
  for (const LinkStatus& told : engine_->status().plan.links) {
    EXPECT_NEAR(told.latency_s.value, 10e-6, 1e-9);
    EXPECT_NEAR(told.bytes_per_s.value, 1e9, 1);
    EXPECT_EQ(told.bytes_per_s.origin, placement::Origin::kMeasured);
  }
  EXPECT_EQ(*engine_->Replan(kHelpedByThird), ReplanAnswer::kServesAlready);
}

TEST_F(EngineLinksTest, APlanMaySayWhatEachLinkIs) {
  Serve();
  ASSERT_TRUE(engine_
                  ->Replan(R"({"stages":[{"lead":1,"layers":[0,2],"link":"zmq","wire":"F16"},
                                         {"lead":2,"layers":[2,4]}]})")
                  .ok());
  ASSERT_TRUE(Reaches(2));
  EXPECT_EQ(AssignmentOf(1).next_address, "tcp://node2:1");
  EXPECT_EQ(AssignmentOf(2).previous_address, "tcp://node1:1");
  EXPECT_EQ(AssignmentOf(2).plan.stages[0].to_next.wire, DType::kF16);
  EXPECT_EQ(observer_.outcome().cluster.FindLink({1}, {2})->latency_s.origin,
            placement::Origin::kAssumed)
      << "measured was another transport";
}

TEST_F(EngineLinksTest, AGivenPlansLinksAreMeasuredByTheTransportThatItSays) {
  options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,2],"link":"zmq"},
                                     {"lead":2,"layers":[2,4]}]})";
  Serve();
  EXPECT_EQ(AssignmentOf(1).next_address, "tcp://node2:1");
  EXPECT_EQ(observer_.outcome().cluster.FindLink({1}, {2})->latency_s.origin,
            placement::Origin::kMeasured);
  const MutexLock lock(mutex_);
  ASSERT_EQ(probes_.size(), 2u);
  for (const auto& [to, probe] : probes_) EXPECT_EQ(probe.transport, LinkKind::kZmq);
}

TEST_F(EngineLinksTest, ATransportThatAnEndLacksIsRefusedByName) {
  Serve();
  JoinThird();
  const auto answer = engine_->Replan(
      R"({"stages":[{"lead":1,"layers":[0,4],
                     "helpers":[{"worker":3,"neurons":[64,128],"link":"mpi"}]}]})");
  EXPECT_THAT(answer.status().message(),
              HasSubstr("link between worker 1 and worker 3: transport mpi needs both ends to be "
                        "MPI ranks: worker 3 on node3 is none"));
  EXPECT_EQ(engine_->status().epoch, 1u);
}

TEST_F(EngineLinksTest, WhereAllLinksAreMpiAStrangerStaysSpare) {
  options_.plan.link_by_pair = false;
  options_.replan = ReplanMode::kAuto;
  Serve();
  JoinThird();
  EXPECT_TRUE(Eventually([&] {
    return observer_.Heard("stays spare: this service's links are mpi, which do not reach it");
  }));
  EXPECT_THAT(engine_->Replan(kHelpedByThird).status().message(),
              HasSubstr("link between worker 1 and worker 3: transport mpi needs both ends"));
}

TEST_F(EngineLinksTest, ASearchFindsAPlanWithARankAndAStranger) {
  options_.expected = {{{1}, "node1"}};
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  StartEngine();
  mailbox_.Post(PeerOf(1), RankOf(1));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  proto::Hello hello = HelloOf(2);
  hello.wanted_id.reset();
  mailbox_.Post(PeerOf(2), hello);
  ASSERT_TRUE(Eventually([&] { return engine_->status().workers.size() == 2; }));
  ASSERT_TRUE(engine_->Replan("").ok());
  ASSERT_TRUE(Reaches(2));  // two stages take half as long each
  const placement::Plan plan = AssignmentOf(1).plan;
  ASSERT_EQ(plan.stages.size(), 2u);
  EXPECT_EQ(plan.WayOf(plan.stages[0].to_next).link, LinkKind::kZmq);
}

}  // namespace
}  // namespace thermocline::coordinator
