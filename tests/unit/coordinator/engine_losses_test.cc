// Workers, links and steps that are lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {
namespace {

using ::testing::HasSubstr;

TEST_F(EngineTest, SilentWorkerEndsEverythingAndIsNamed) {
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 50));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  clock_.Advance(seconds(6));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->finish(), FinishReason::kError);
  EXPECT_THAT(sink->error().message(),
              HasSubstr("worker 1 on node1 is lost: no heartbeat for 6 s"));
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("failed: worker 1 on node1 is lost"); }));
  EXPECT_EQ(engine_->status().state, ServiceState::kFailed);
  EXPECT_THAT(engine_->Submit(Request(1, 1), sink).status().message(),
              HasSubstr("worker 1 on node1"));
  EXPECT_THAT(sink->error().message(), HasSubstr("no other worker is left"));
  EXPECT_FALSE(WasToldToShutDown(2)) << "it is lost, too";
}

TEST_F(EngineTest, HeartbeatsKeepWorkersAlive) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  StartServing();
  for (int i = 0; i < 20; ++i) {
    // A beat is asked for by the tick that the engine makes within this advance.
    clock_.Advance(seconds(1));
    ASSERT_TRUE(Eventually([&] {
      return engine_->status().workers[0].heartbeat_age_s == 0 &&
             engine_->status().workers[1].heartbeat_age_s == 0;
    }));
  }
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineTest, ALostLinkIsBlamedOnTheWorkerThatIsGone) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(2);
  }
  mailbox_.Post(PeerOf(1), proto::LinkLost{{1}, {2}, "connection to peer is lost: peer=2"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(), HasSubstr("worker 2 on node2 is lost"));
}

TEST_F(EngineTest, WorkersFailureIsToldInOneLine) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.code(), StatusCode::kDataLoss);
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("worker 2 on node2 failed: tensor outside file: blk.3"));
}

TEST_F(EngineTest, WorkerThatLeavesOrCannotBeReachedIsLost) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(1);
  }
  const auto sink = Submit(Request(5, 5));
  ASSERT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kError; }));
  EXPECT_EQ(sink->error().message(),
            "worker 1 on node1 is lost: its connection closed (the process ended?)");
}

TEST_F(EngineTest, TheLostWorkerIsNamedNotTheNeighbourWhoseLinkBroke) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(1);
  }
  mailbox_.Post(PeerOf(2), proto::LinkLost{{1}, {1}, "link closed"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 1 on node1 is lost: its connection closed (the process ended?)");
}

TEST_F(EngineTest, ABrokenLinkAloneIsToldASecondLater) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  mailbox_.Post(PeerOf(2), proto::LinkLost{{1}, {1}, "link closed"});
  mailbox_.Post({77}, proto::Heartbeat{});
  ASSERT_TRUE(Eventually([&] { return engine_->status().stale_frames == 1; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
  clock_.Advance(std::chrono::milliseconds(1100));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 1 on node1 is lost to worker 2 on node2: link closed");
}

TEST_F(EngineTest, SpareWorkersMayDie) {
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  StartServing();
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    dead_ = PeerOf(1);
  }
  clock_.Advance(seconds(1));
  ASSERT_TRUE(Eventually([&] { return engine_->status().workers.size() == 1; }));
  EXPECT_TRUE(observer_.Heard("left node1: worker 1 on node1 is lost: its connection closed"));
  const auto sink = Submit(Request(5, 3));
  ASSERT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kLength; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineTest, SilentOrFailingSpareWorkersAreDropped) {
  options_.expected = {{{1}, ""}, {{2}, ""}, {{3}, ""}};
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    silent_ = PeerOf(1);
  }
  StartServing();
  mailbox_.Post(PeerOf(3), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("left node3: worker 3 on node3 failed"); }));
  ASSERT_TRUE(InTime(
      [&] { return observer_.Heard("left node1: worker 1 on node1 is lost: no heartbeat for"); }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineTest, WhoseConnectionClosesAfterASilenceDoesNotAnswer) {
  options_.heartbeat_expiry = seconds(60);
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    silent_ = PeerOf(1);
  }
  StartServing();
  ASSERT_TRUE(InTime([&] {
    for (const WorkerStatus& worker : engine_->status().workers) {
      if (worker.id == WorkerId{1}) return worker.heartbeat_age_s >= 3;
    }
    return false;
  }));
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(1);
  }
  ASSERT_TRUE(InTime([&] { return engine_->status().workers.size() == 1; }));
  EXPECT_TRUE(observer_.Heard(
      "left node1: worker 1 on node1 is lost: it does not answer, no heartbeat for"));
}

TEST_F(EngineTest, AStepThatIsNeverAnsweredEndsTheService) {
  options_.step_timeout = seconds(20);
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  ASSERT_TRUE(InTime([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->error().code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(sink->error().message(), HasSubstr("step 1 has been outstanding for "));
  EXPECT_THAT(sink->error().message(),
              HasSubstr("stage 0 (worker 1 on node1) 0, stage 1 (worker 2 on node2) 0"));
}

TEST_F(EngineTest, AnsweredStepsAreProgressWithoutATokenToo) {
  options_.max_step_tokens = 16;
  options_.prefill_chunk = 16;
  options_.max_in_flight = 1;
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(40, 3));
  for (int chunk = 0; chunk < 2; ++chunk) {
    ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
    clock_.Advance(seconds(2));
    ASSERT_TRUE(Eventually([&] { return engine_->status().last_token_age_s >= 2; }));
    AnswerHeld();
    ASSERT_TRUE(Eventually([&] { return engine_->status().last_token_age_s == 0; }));
    EXPECT_TRUE(sink->tokens().empty());
  }
  SetHolds(false);
  EXPECT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kLength; }));
}

}  // namespace
}  // namespace thermocline::coordinator
