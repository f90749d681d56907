// Workers that are lost while streams run, and are planned around.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "placement/overhead.h"
#include "tests/unit/coordinator/engine_change_fixture.h"

namespace thermocline::coordinator {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

// A stage on each of three workers.
class EngineLossTest : public EngineChangeTest {
 protected:
  EngineLossTest() {
    options_.expected = {{{1}, "node1"}, {{2}, "node2"}, {{3}, "node3"}};
    options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,1]},{"lead":2,"layers":[1,2]},
                                       {"lead":3,"layers":[2,4]}]})";
    options_.replan = ReplanMode::kNow;
  }
  void Kill(uint64_t worker) {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(worker);
  }
  void SetLoads(bool loads) {
    const MutexLock lock(mutex_);
    loads_ = loads;
  }
  bool Reaches(uint64_t epoch) {
    return InTime([&] {
      const ServiceStatus status = engine_->status();
      return status.epoch == epoch && !status.plan.is_changing;
    });
  }
  std::vector<uint64_t> Workers() {
    std::vector<uint64_t> ids;
    for (const WorkerStatus& worker : engine_->status().workers) ids.push_back(worker.id.value);
    return ids;
  }
  Epoch EpochAt(uint64_t worker) {
    const MutexLock lock(mutex_);
    return assignments_[PeerOf(worker)].plan.epoch;
  }
  Status RefusalOf(uint64_t worker) {
    const MutexLock lock(mutex_);
    const auto found = refusals_.find(PeerOf(worker));
    return found == refusals_.end() ? OkStatus() : found->second;
  }
  void ExpectToEnd(const std::vector<GenerationRequest>& requests,
                   const std::vector<std::shared_ptr<RecordingSink>>& sinks) {
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(Eventually([&] { return sinks[i]->finish().has_value(); })) << i;
      EXPECT_EQ(sinks[i]->finish(), FinishReason::kLength) << sinks[i]->error();
      EXPECT_EQ(sinks[i]->tokens(), Expected(requests[i])) << i;
      EXPECT_EQ(sinks[i]->n_after_finish(), 0);
    }
  }
};

TEST_F(EngineLossTest, StreamsGoOnWithTheSameTokensWithoutTheLostWorker) {
  Serve();
  SetHolds(true);
  const std::vector<GenerationRequest> requests = {Request(5, 40), Request(20, 30), Request(1, 12),
                                                   Request(9, 9)};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (size_t i = 0; i < 3; ++i) sinks.push_back(Submit(requests[i]));
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Eventually([&] { return n_held() > 0; }));
    AnswerHeld();
  }
  ASSERT_TRUE(Eventually([&] { return n_held() > 0; }));
  Kill(2);
  mailbox_.Post(PeerOf(1), proto::LinkLost{{1}, {2}, "connection to peer is lost"});
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.n_lost == 1; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
  sinks.push_back(Submit(requests[3]));  // accepted meanwhile
  SetHolds(false);                       // answers to steps of the plan that is no more
  ASSERT_TRUE(Reaches(2));
  ExpectToEnd(requests, sinks);
  const ServiceStatus status = engine_->status();
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(status.plan.why,
            "worker 2 on node2 is lost: its connection closed (the process ended?)");
  EXPECT_TRUE(observer_.Heard("planning around it: streams wait meanwhile"));
  EXPECT_EQ(status.plan.n_changes, 1u);
}

TEST_F(EngineLossTest, ASilentWorkerIsPlannedAroundAndToldToEnd) {
  Serve();
  const auto sink = Submit(Request(5, 50));
  {
    const MutexLock lock(mutex_);
    silent_ = PeerOf(3);
  }
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.n_lost == 1; }));
  ASSERT_TRUE(Reaches(2));
  ExpectToEnd({Request(5, 50)}, {sink});
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{1, 2}));
  EXPECT_THAT(RefusalOf(3).message(), HasSubstr("worker 3 on node3 is lost: no heartbeat for"));
}

TEST_F(EngineLossTest, TwoThatDieTogetherArePlannedAroundTogether) {
  Serve();
  SetHolds(true);
  const auto sink = Submit(Request(5, 40));
  ASSERT_TRUE(Eventually([&] { return n_held() > 0; }));
  Kill(1);
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("the GPU is gone: device=0")});
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.n_lost == 2; }));
  SetHolds(false);
  ASSERT_TRUE(InTime([&] { return !engine_->status().plan.is_changing; }));
  ExpectToEnd({Request(5, 40)}, {sink});
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{3}));
}

TEST_F(EngineLossTest, AnotherThatDiesWhileItIsLoadedIsPlannedAroundToo) {
  Serve();
  const auto sink = Submit(Request(5, 50));
  SetLoads(false);
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Eventually([&] { return EpochAt(3) == Epoch{2}; }));
  SetLoads(true);
  mailbox_.Post(PeerOf(1), proto::Shutdown{"stopped by a signal"});
  ASSERT_TRUE(Reaches(3));
  ExpectToEnd({Request(5, 50)}, {sink});
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{3}));
  EXPECT_EQ(engine_->status().plan.n_lost, 2u);
}

TEST_F(EngineLossTest, WhoHangsWhileItLoadsThePlanAroundAnotherIsPlannedAroundToo) {
  options_.load_timeout = seconds(30);
  Serve();
  const auto sink = Submit(Request(5, 40));
  {
    const MutexLock lock(mutex_);
    hangs_ = PeerOf(1);
  }
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Reaches(3));
  ExpectToEnd({Request(5, 40)}, {sink});
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{3}));
  EXPECT_EQ(RefusalOf(1).code(), StatusCode::kDeadlineExceeded);
}

TEST_F(EngineLossTest, ABrokenLinkAloneCostsTheWorkerAtItsOtherEnd) {
  Serve();
  const auto sink = Submit(Request(5, 40));
  mailbox_.Post(PeerOf(1), proto::LinkLost{{1}, {2}, "connection to peer is lost"});
  mailbox_.Post(PeerOf(3), proto::LinkLost{{1}, {2}, "connection to peer is lost"});
  ASSERT_TRUE(Reaches(2));
  ExpectToEnd({Request(5, 40)}, {sink});
  EXPECT_EQ(Workers(), (std::vector<uint64_t>{1, 3}));
  EXPECT_THAT(RefusalOf(2).message(),
              HasSubstr("worker 2 on node2 is lost to worker 1 on node1: connection"));
}

TEST_F(EngineLossTest, ALinkOfAPlanBeforeIsNobodysLoss) {
  Serve();
  mailbox_.Post(PeerOf(1), proto::LinkLost{{0}, {2}, "connection to peer is lost"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().stale_frames == 1; }));
  clock_.Advance(milliseconds(1500));
  const auto sink = Submit(Request(5, 5));
  ExpectToEnd({Request(5, 5)}, {sink});
  EXPECT_EQ(engine_->status().epoch, 1u);
}

TEST_F(EngineLossTest, AnAnswerThatCannotBeTrustedCostsItsWorker) {
  Serve();
  SetHolds(true);
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  mailbox_.Post(PeerOf(3), proto::StepResult{.epoch = {1}, .step = {1}});
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.n_lost == 1; }));
  SetHolds(false);
  ASSERT_TRUE(Reaches(2));
  ExpectToEnd({Request(5, 20)}, {sink});
  EXPECT_THAT(RefusalOf(3).message(), HasSubstr("step result lacks a sequence"));
}

TEST_F(EngineLossTest, CancelledWhileStreamsWait) {
  Serve();
  const HeldStreams held = HoldTwo();
  SetLoads(false);
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return EpochAt(1) == Epoch{2}; }));
  engine_->Cancel(held.first_id);
  ASSERT_TRUE(Eventually([&] { return held.first->finish() == FinishReason::kCancelled; }));
  EXPECT_THAT(engine_->Replan("").status().message(), HasSubstr("is changing now"));
  SetHolds(false);
  for (const uint64_t worker : {1, 3}) mailbox_.Post(PeerOf(worker), proto::Ready{.epoch = {2}});
  ExpectToEnd({Request(7, 20)}, {held.second});
}

// Five workers, and a request that kills every one that computes it.
class PoisonTest : public EngineLossTest {
 protected:
  PoisonTest() {
    options_.expected.push_back({{4}, "node4"});
    options_.expected.push_back({{5}, "node5"});
  }
  static GenerationRequest Poison() {
    GenerationRequest request = Request(5, 20);
    request.prompt[0] = kPoison;
    return request;
  }
  void ExpectGivenUp(const RecordingSink& sink, const std::string& why) {
    ASSERT_TRUE(InTime([&] { return sink.finish().has_value(); }));
    EXPECT_EQ(sink.finish(), FinishReason::kError);
    EXPECT_EQ(sink.error().code(), StatusCode::kInternal);
    EXPECT_THAT(sink.error().message(), HasSubstr(why));
    EXPECT_EQ(sink.n_after_finish(), 0);
  }
};

TEST_F(PoisonTest, TakesTwoWorkersAndIsGivenUp) {
  Serve();
  const auto poison = Submit(Poison());
  ExpectGivenUp(*poison,
                "given up: 2 workers were lost one after the other while they computed "
                "this request, the last because: worker ");
  ASSERT_TRUE(Reaches(3));
  EXPECT_EQ(engine_->status().plan.n_lost, 2u);
  const auto next = Submit(Request(5, 20));
  ExpectToEnd({Request(5, 20)}, {next});
}

// The third loss tells which of those it was that were computed together.
TEST_F(PoisonTest, OthersInTheSameStepsGoOn) {
  Serve();
  SetLoads(true);
  const std::vector<GenerationRequest> requests = {Request(5, 40), Request(9, 40), Request(3, 40)};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  SetHolds(true);
  sinks.push_back(Submit(requests[0]));
  sinks.push_back(Submit(requests[1]));
  const auto poison = Submit(Poison());
  sinks.push_back(Submit(requests[2]));
  SetHolds(false);
  ExpectGivenUp(*poison, " workers were lost one after the other");
  ExpectToEnd(requests, sinks);
  EXPECT_LE(engine_->status().plan.n_lost, 3u);
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineLossTest, WhoWantedToLeaveIsAskedToStayWhenNobodyElseIsLeft) {
  options_.expected = {{{1}, "node1"}, {{2}, "node2"}};
  options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,2]},{"lead":2,"layers":[2,4]}]})";
  Serve();
  SetHolds(true);
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(InTime([&] {
    const MutexLock lock(mutex_);
    return stays_.contains(PeerOf(1));
  }));
  SetHolds(false);
  ASSERT_TRUE(Reaches(2));
  ExpectToEnd({Request(5, 20)}, {sink});
  EXPECT_FALSE(engine_->status().workers[0].leaving);
}

TEST_F(EngineLossTest, WhatTheOthersCannotHoldEndsTheServiceWithNumbers) {
  options_.plan_json = "";
  options_.max_step_tokens = options_.prefill_chunk = 32;  // frames weigh less than layers
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  StartEngine();
  const placement::OverheadModel overhead(model_.config, model_.weights, options_.plan.ffn,
                                          options_.max_step_tokens, 0);
  for (const uint64_t id : {1, 2, 3}) {
    proto::Hello hello = HelloOf(id);
    hello.profile.memory_bytes =
        overhead.MostOfLead({2, 4, false, true}, 0, placement::Holder::kProcess) +
        model_.weights.BytesOf({0, 4, true, true}) * 3 / 4;
    mailbox_.Post(PeerOf(id), hello);
  }
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  const auto sink = Submit(Request(5, 50));
  mailbox_.Post(PeerOf(1), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Reaches(2));  // two hold it
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  const std::string why = engine_->status().failure.message();
  EXPECT_THAT(why, HasSubstr("worker 2 on node2 failed: out of memory; the workers that are left "
                             "cannot go on without it: "));
  EXPECT_THAT(why, HasSubstr("missing"));
  EXPECT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(3); }));
}

TEST_F(EngineLossTest, AServiceThatKeepsItsPlanEndsWithALostWorker) {
  options_.replan = ReplanMode::kOff;
  Serve();
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.code(), StatusCode::kDataLoss);
}

TEST_F(EngineLossTest, WhoIsLostBeforeAnythingServesEndsTheService) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    loads_ = false;
  }
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kLoading; }));
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().plan.n_lost, 0u);
}

}  // namespace
}  // namespace thermocline::coordinator
