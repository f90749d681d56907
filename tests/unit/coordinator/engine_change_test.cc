// Changes of plan while streams run; workers that come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "placement/overhead.h"
#include "tests/unit/coordinator/engine_change_fixture.h"

namespace thermocline::coordinator {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr char kAllOnOne[] = R"({"stages":[{"lead":1,"layers":[0,4]}]})";
constexpr char kOneAndThree[] =
    R"({"stages":[{"lead":2,"layers":[0,1]},{"lead":1,"layers":[1,4]}]})";
constexpr char kThirdAndSecond[] =
    R"({"stages":[{"lead":3,"layers":[0,2]},{"lead":2,"layers":[2,4]}]})";

TEST_F(EngineChangeTest, StreamsGoOnWithTheSameTokensOverTheNextPlan) {
  Serve();
  SetHolds(true);
  const std::vector<GenerationRequest> requests = {Request(5, 40), Request(20, 30), Request(1, 12)};
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const GenerationRequest& request : requests) sinks.push_back(Submit(request));
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(Eventually([&] { return n_held() > 0; }));
    AnswerHeld();
  }
  ASSERT_TRUE(Eventually([&] { return n_held() > 0; }));
  ASSERT_TRUE(engine_->Replan(kOneAndThree).ok());
  // Steps go on until there is a plan, and must not end the streams.
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("changing to another plan"); }));
  ASSERT_TRUE(Eventually([&] { return engine_->status().plan.is_changing; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
  const auto late = Submit(Request(9, 9));  // accepted meanwhile
  SetHolds(false);
  ASSERT_TRUE(Reaches(2));
  sinks.push_back(late);
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(Eventually([&] { return sinks[i]->finish().has_value(); })) << i;
    EXPECT_EQ(sinks[i]->finish(), FinishReason::kLength);
    EXPECT_EQ(sinks[i]->tokens(), Expected(i < 3 ? requests[i] : Request(9, 9))) << i;
    EXPECT_EQ(sinks[i]->n_after_finish(), 0);
  }
  const ServiceStatus status = engine_->status();
  EXPECT_EQ(status.plan.n_changes, 1u);
  EXPECT_EQ(status.plan.why, "given");
  EXPECT_EQ(status.plan.kept_bytes, 12u);
  EXPECT_EQ(status.plan.read_bytes, 8u);
  EXPECT_GT(status.preemptions, 0u);
  EXPECT_EQ(AssignmentOf(PeerOf(1)).stage, 1);
  EXPECT_EQ(AssignmentOf(PeerOf(1)).previous_address, "tcp://node2:1");
}

TEST_F(EngineChangeTest, APlanWithoutLinksBindsLaterOnesToNoTransport) {
  options_.replan = ReplanMode::kNow;
  Serve();
  ASSERT_TRUE(engine_->Replan(R"({"link":"mpi","stages":[{"lead":1,"layers":[0,4]}]})").ok());
  ASSERT_TRUE(Reaches(2));
  const auto later = engine_->Replan(kOneAndThree);
  ASSERT_TRUE(later.ok()) << later.status();
  ASSERT_TRUE(Reaches(3));
  EXPECT_EQ(AssignmentOf(PeerOf(1)).plan.link, placement::LinkKind::kZmq);
  EXPECT_EQ(AssignmentOf(PeerOf(1)).previous_address, "tcp://node2:1");
}

TEST_F(EngineChangeTest, WhoLeavesAPlanThatNamesATransportInVainIsReplaced) {
  options_.replan = ReplanMode::kNow;
  Serve();
  ASSERT_TRUE(engine_->Replan(R"({"link":"mpi","stages":[{"lead":1,"layers":[0,4]}]})").ok());
  ASSERT_TRUE(Reaches(2));
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] { return !IsWorker(1); }));
  EXPECT_EQ(AssignmentOf(PeerOf(2)).stage, 0);
}

TEST_F(EngineChangeTest, NoPlanIsSentBeforeTheStepsUnderWayAreAnswered) {
  Serve();
  SetHolds(true);
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  ASSERT_TRUE(engine_->Replan(kAllOnOne).ok());
  ASSERT_TRUE(Eventually([&] { return engine_->status().plan.is_changing; }));
  EXPECT_THAT(engine_->Replan(kAllOnOne).status().message(), HasSubstr("is changing now"));
  EXPECT_EQ(AssignmentOf(PeerOf(1)).plan.epoch, Epoch{1});
  SetHolds(false);
  ASSERT_TRUE(Reaches(2));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 20)));
  EXPECT_EQ(AssignmentOf(PeerOf(2)).stage, -1);  // a spare now
  EXPECT_EQ(engine_->status().workers[1].stage, -1);
  EXPECT_EQ(engine_->status().workers[1].layer_end, 0);
}

TEST_F(EngineChangeTest, CancelledWhileThePlanChanges) {
  Serve();
  const HeldStreams held = HoldTwo();
  {
    const MutexLock lock(mutex_);
    loads_ = false;
  }
  ASSERT_TRUE(engine_->Replan(kOneAndThree).ok());
  // Steps go on until there is a plan, and must not end the stream.
  ASSERT_TRUE(Eventually(
      [&] { return engine_->status().plan.news.find("changing to") != std::string::npos; }));
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return AssignmentOf(PeerOf(1)).plan.epoch == Epoch{2}; }));
  engine_->Cancel(held.first_id);
  ASSERT_TRUE(Eventually([&] { return held.first->finish() == FinishReason::kCancelled; }));
  for (const uint64_t worker : {1, 2}) mailbox_.Post(PeerOf(worker), proto::Ready{.epoch = {2}});
  ASSERT_TRUE(Eventually([&] { return held.second->finish().has_value(); }));
  EXPECT_EQ(held.second->tokens(), Expected(Request(7, 20)));
  EXPECT_TRUE(Eventually([&] { return engine_->status().kv_tokens_used == 0; }));
}

TEST_F(EngineChangeTest, PlansThatCannotBeAreToldAndNothingChanges) {
  Serve();
  const auto why_not = [&](const std::string& plan) {
    const Status status = engine_->Replan(plan).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
    return status.message();
  };
  EXPECT_THAT(why_not("{"), HasSubstr("line 1"));
  EXPECT_THAT(why_not(R"({"stages":[{"lead":2,"layers":[0,3]}]})"),
              HasSubstr("stages do not end with the last layer"));
  EXPECT_THAT(why_not(R"({"stages":[{"lead":7,"layers":[0,4]}]})"), HasSubstr("7"));
  EXPECT_THAT(why_not(R"({"n_ctx":32,"stages":[{"lead":2,"layers":[0,4]}]})"),
              HasSubstr("keeps its context and pages: n_ctx=32"));
  EXPECT_THAT(why_not(R"({"link":"mpi",
                          "stages":[{"lead":2,"layers":[0,1]},{"lead":1,"layers":[1,4]}]})"),
              HasSubstr("needs both ends to be MPI ranks: worker 2 on node2 is none"));
  ASSERT_TRUE(engine_->Replan("").ok());
  ASSERT_TRUE(HearsAndGoesOn("would be the same again"));
  EXPECT_EQ(engine_->status().epoch, 1u);
  const auto sink = Submit(Request(5, 3));
  EXPECT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kLength; }));
}

TEST_F(EngineChangeTest, APlanThatServesAlreadyChangesNothing) {
  Serve();
  placement::Plan serves = observer_.plan();
  const auto answer_to = [&](const std::string& plan) {
    const auto answer = engine_->Replan(plan);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *answer : ReplanAnswer::kAccepted;
  };
  EXPECT_EQ(answer_to(placement::PlanToJson(serves)), ReplanAnswer::kServesAlready);
  serves.stages[0].reason = "I want it so";
  EXPECT_EQ(answer_to(placement::PlanToJson(serves)), ReplanAnswer::kServesAlready);
  // Only the stages, as one writes them by hand.
  std::string stages;
  for (const auto& stage : serves.stages) {
    stages += Str(stages.empty() ? "" : ",", R"({"lead":)", stage.lead, R"(,"layers":[)",
                  stage.layers.begin, ",", stage.layers.end, "]}");
  }
  EXPECT_EQ(answer_to(Str(R"({"stages":[)", stages, "]}")), ReplanAnswer::kServesAlready);
  EXPECT_FALSE(engine_->status().plan.is_changing);
  EXPECT_EQ(engine_->status().epoch, 1u);
  // Fewer pages are another plan.
  serves.kv.n_pages = 8;
  for (auto& stage : serves.stages) stage.kv_bytes = 0;
  EXPECT_EQ(answer_to(placement::PlanToJson(serves)), ReplanAnswer::kAccepted);
  ASSERT_TRUE(Reaches(2));
  EXPECT_EQ(observer_.plan().kv.n_pages, 8);
}

TEST_F(EngineChangeTest, APlanIsKeptWhenSaidSo) {
  options_.replan = ReplanMode::kOff;
  Serve();
  EXPECT_THAT(engine_->Replan("").status().message(), HasSubstr("--replan off"));
  mailbox_.Post(PeerOf(2), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] {
    const MutexLock lock(mutex_);
    return stays_.contains(PeerOf(2));
  }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineChangeTest, AWorkerThatDiesWhileItLoadsIsPlannedAround) {
  Serve();
  {
    const MutexLock lock(mutex_);
    loads_ = false;
  }
  const auto sink = Submit(Request(5, 50));
  ASSERT_TRUE(engine_->Replan(kOneAndThree).ok());
  ASSERT_TRUE(Eventually([&] { return AssignmentOf(PeerOf(1)).plan.epoch == Epoch{2}; }));
  {
    const MutexLock lock(mutex_);
    loads_ = true;
  }
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Reaches(3));
  EXPECT_THAT(engine_->status().plan.why, HasSubstr("worker 2 on node2 failed: tensor"));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 50)));
}

TEST_F(EngineChangeTest, AWorkerThatHangsWhileItLoadsIsGivenUpAndThePlanBeforeComesBack) {
  options_.load_timeout = seconds(30);
  Serve();
  const auto sink = Submit(Request(5, 40));
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(3); }));
  {
    const MutexLock lock(mutex_);
    hangs_ = comm::PeerId{77};
  }
  ASSERT_TRUE(Asked(kThirdAndSecond));
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 3; }));
  ASSERT_TRUE(Reaches(3));
  EXPECT_TRUE(observer_.Heard("worker 3 on node9 has loaded nothing more for 30 s"));
  EXPECT_FALSE(IsWorker(3));
  {
    const MutexLock lock(mutex_);
    EXPECT_EQ(refusals_[{77}].code(), StatusCode::kDeadlineExceeded);
  }
  EXPECT_EQ(engine_->status().plan.why, "the plan before is back");
  EXPECT_EQ(AssignmentOf(PeerOf(1)).stage, 0);
  EXPECT_EQ(AssignmentOf(PeerOf(1)).plan.epoch, Epoch{3});
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 40)));
}

TEST_F(EngineChangeTest, LoadsThatGoOnHaveAllTheTimeTheyNeed) {
  options_.load_timeout = seconds(5);
  Serve();
  {
    const MutexLock lock(mutex_);
    hangs_ = PeerOf(2);
  }
  ASSERT_TRUE(engine_->Replan(kOneAndThree).ok());
  ASSERT_TRUE(Eventually([&] { return AssignmentOf(PeerOf(2)).plan.epoch == Epoch{2}; }));
  for (uint64_t i = 1; i <= 10; ++i) {  // a byte in four seconds
    mailbox_.Post(PeerOf(2), proto::LoadProgress{.epoch = {2}, .bytes_done = i, .bytes_total = 10});
    ASSERT_TRUE(Eventually([&] { return engine_->status().workers[1].bytes_done == i; }));
    for (int step = 0; step < 4; ++step) {
      clock_.Advance(seconds(1));
      ASSERT_TRUE(Eventually([&] {
        const ServiceStatus status = engine_->status();
        return status.workers[0].heartbeat_age_s == 0 && status.workers[1].heartbeat_age_s == 0;
      }));
    }
  }
  mailbox_.Post(PeerOf(2), proto::Ready{.epoch = {2}});
  ASSERT_TRUE(Reaches(2));
}

TEST_F(EngineChangeTest, WhoHangsAndIsNeededByThePlanBeforeIsPlannedAround) {
  options_.load_timeout = seconds(30);
  Serve();
  {
    const MutexLock lock(mutex_);
    hangs_ = PeerOf(2);
  }
  ASSERT_TRUE(engine_->Replan(kOneAndThree).ok());
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 4; }));
  ASSERT_TRUE(Reaches(4));
  EXPECT_TRUE(observer_.Heard("going back to the plan before"));
  EXPECT_THAT(engine_->status().plan.why, HasSubstr("worker 2 on node2 has loaded"));
  EXPECT_FALSE(IsWorker(2));
}

// Its plan cannot be loaded, so it is needed: it must hear that.
TEST_F(EngineChangeTest, WhoLeavesIsAskedToStayWhenThePlanWithoutItCannotBeLoaded) {
  options_.load_timeout = seconds(30);
  options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,4]}]})";
  Serve();
  {
    const MutexLock lock(mutex_);
    hangs_ = PeerOf(2);  // a spare until now
  }
  const auto sink = Submit(Request(5, 20));
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] {
    const MutexLock lock(mutex_);
    return stays_.contains(PeerOf(1));
  }));
  ASSERT_TRUE(Reaches(3));
  EXPECT_FALSE(IsWorker(2));
  EXPECT_FALSE(engine_->status().workers[0].leaving);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 20)));
}

// Whoever wants to leave is not forgotten with a plan that was dropped.
TEST_F(EngineChangeTest, WhoLeavesIsPlannedWithoutOnceMoreWhenAnotherGoesMeanwhile) {
  options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,4]}]})";
  Serve();
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(3); }));
  SetHolds(true);
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] { return observer_.Heard("changing to another plan"); }));
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return !IsWorker(2); }));
  SetHolds(false);
  ASSERT_TRUE(InTime([&] { return !IsWorker(1); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  EXPECT_TRUE(observer_.Heard("one of its workers has gone meanwhile"));
  EXPECT_EQ(AssignmentOf({77}).stage, 0);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 20)));
}

TEST_F(EngineChangeTest, AWorkerMayLeaveAndTheStreamGoesOn) {
  Serve();
  const auto sink = Submit(Request(5, 58));
  mailbox_.Post(PeerOf(2), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] { return !IsWorker(2); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(2); }));
  EXPECT_FALSE(WasToldToShutDown(1));
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 58)));
  EXPECT_EQ(engine_->status().epoch, 2u);
  EXPECT_EQ(engine_->status().plan.why, "worker 2 on node2 leaves");
  const auto next = Submit(Request(3, 3));
  EXPECT_TRUE(Eventually([&] { return next->finish() == FinishReason::kLength; }));
}

TEST_F(EngineChangeTest, AWorkerWithoutWhomNothingFitsIsAskedToStay) {
  options_.expected = {{{1}, "node1"}};
  Serve();
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] {
    const MutexLock lock(mutex_);
    return stays_.contains(PeerOf(1));
  }));
  EXPECT_TRUE(observer_.Heard("worker 1 on node1 asked to leave but is needed"));
  const auto sink = Submit(Request(3, 3));
  EXPECT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kLength; }));
  EXPECT_FALSE(engine_->status().workers[0].leaving);
  mailbox_.Post(PeerOf(1), proto::Shutdown{"SIGTERM again"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("worker 1 on node1 is leaving: SIGTERM again"));
}

// Layers of the model fit two workers of three, not one.
TEST_F(EngineChangeTest, OfTwoWhoLeaveAtOnceTheOneGoesThatCan) {
  options_.expected = {{{1}, "node1"}, {{2}, "node2"}, {{3}, "node3"}};
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  options_.max_step_tokens = options_.prefill_chunk = 32;  // frames weigh less than layers
  StartEngine();
  const uint64_t n_weights = model_.weights.BytesOf({0, 4, true, true});
  const placement::OverheadModel overhead(model_.config, model_.weights, options_.plan.ffn,
                                          options_.max_step_tokens, 0);
  for (const uint64_t id : {1, 2, 3}) {
    proto::Hello hello = HelloOf(id);
    hello.profile.memory_bytes =
        overhead.MostOfLead({2, 4, false, true}, 0, placement::Holder::kProcess) +
        n_weights * 3 / 4;
    mailbox_.Post(PeerOf(id), hello);
  }
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  const auto sink = Submit(Request(5, 40));
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  mailbox_.Post(PeerOf(2), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] {
    const MutexLock lock(mutex_);
    return stays_.size() == 1;
  }));
  EXPECT_FALSE(IsWorker(1));
  EXPECT_TRUE(IsWorker(2));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  EXPECT_TRUE(observer_.Heard("worker 2 on node2 asked to leave but is needed"));
  EXPECT_EQ(engine_->status().plan.why, "worker 1 on node1 leaves");
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 40)));
}

TEST_F(EngineChangeTest, TwoWhoCanLeaveGoTogether) {
  options_.expected = {{{1}, "node1"}, {{2}, "node2"}, {{3}, "node3"}};
  options_.plan_json = R"({"stages":[{"lead":1,"layers":[0,1]},{"lead":2,"layers":[1,2]},
                                     {"lead":3,"layers":[2,4]}]})";
  Serve();
  mailbox_.Post(PeerOf(3), proto::Leaving{"SIGTERM"});
  mailbox_.Post(PeerOf(2), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] { return !IsWorker(2) && !IsWorker(3); }));
  EXPECT_EQ(engine_->status().epoch, 2u);
  EXPECT_EQ(engine_->status().plan.why, "worker 2 on node2, worker 3 on node3 leave");
}

TEST_F(EngineChangeTest, ASpareLeavesAtOnce) {
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  Serve();
  mailbox_.Post(PeerOf(1), proto::Leaving{"SIGTERM"});
  ASSERT_TRUE(InTime([&] { return !IsWorker(1); }));
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  EXPECT_EQ(engine_->status().epoch, 1u);
}

TEST_F(EngineChangeTest, AWorkerThatJoinsIsASpareAndThenInThePlan) {
  Serve();
  const auto sink = Submit(Request(5, 40));
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(3); }));
  ASSERT_TRUE(Asked(kThirdAndSecond));
  ASSERT_TRUE(Reaches(2));
  EXPECT_EQ(AssignmentOf({77}).stage, 0);
  EXPECT_EQ(AssignmentOf(PeerOf(1)).stage, -1);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 40)));
}

TEST_F(EngineChangeTest, APlanWhoseWorkerGoesBeforeItLoadsIsDropped) {
  options_.replan = ReplanMode::kNow;
  Serve();
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(3); }));
  SetHolds(true);
  const auto sink = Submit(Request(5, 20));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  ASSERT_TRUE(engine_->Replan(R"({"stages":[{"lead":3,"layers":[0,4]}]})").ok());
  ASSERT_TRUE(Eventually([&] { return engine_->status().plan.is_changing; }));
  mailbox_.Post({77}, proto::Failure{Unavailable("out of memory")});
  ASSERT_TRUE(Eventually([&] { return !IsWorker(3); }));
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 20)));
  EXPECT_EQ(engine_->status().epoch, 1u);
  EXPECT_TRUE(Eventually([&] { return observer_.Heard("one of its workers has gone meanwhile"); }));
  EXPECT_EQ(engine_->status().epoch, 1u);
}

TEST_F(EngineChangeTest, AWorkerThatIsWorthItIsInThePlanAtOnce) {
  options_.expected = {{{1}, "node1"}};
  Serve();
  const auto sink = Submit(Request(5, 50));
  mailbox_.Post({77}, Stranger("node9"));  // two stages take half as long each
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 2; }));
  ASSERT_TRUE(Reaches(2));
  EXPECT_GE(AssignmentOf({77}).stage, 0);
  EXPECT_EQ(engine_->status().plan.why, "a worker has joined");
  EXPECT_GT(engine_->status().plan.change_gain, 0.2);
  EXPECT_EQ(engine_->status().plan.predicted_gain, 0);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 50)));
}

TEST_F(EngineChangeTest, WhoJoinsWhileTheFirstPlanLoadsIsInTheNext) {
  options_.expected = {{{1}, "node1"}};
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    loads_ = false;
  }
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kLoading; }));
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(2); }));
  {
    const MutexLock lock(mutex_);
    loads_ = true;
  }
  mailbox_.Post(PeerOf(1), proto::Ready{.epoch = {1}, .owned_bytes = 10});
  ASSERT_TRUE(InTime([&] { return engine_->status().epoch == 2; }));
  ASSERT_TRUE(Reaches(2));
  EXPECT_GE(AssignmentOf({77}).stage, 0);
  EXPECT_EQ(engine_->status().plan.why, "a worker has joined");
}

TEST_F(EngineChangeTest, APlanThatWasAskedForWaitsForASearchThatBeganByItself) {
  Serve();
  // Asked for within the very tick that will begin to search for a plan with the worker that joins.
  std::optional<Status> asked;
  {
    const MutexLock lock(mutex_);
    on_heartbeat_ = [&] {
      if (!asked && IsWorker(3)) asked = engine_->Replan(kAllOnOne).status();
    };
  }
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(InTime([&] { return engine_->status().plan.why == "given"; }));
  engine_->Stop();  // it asks no more
  EXPECT_TRUE(asked->ok()) << *asked;
  EXPECT_EQ(observer_.plan().stages.size(), 1u);
}

TEST_F(EngineChangeTest, WhoJoinsWaitsWhenPlansChangeByHandOnly) {
  options_.expected = {{{1}, "node1"}};
  options_.replan = ReplanMode::kNow;
  Serve();
  mailbox_.Post({77}, Stranger("node9"));
  ASSERT_TRUE(Eventually([&] { return IsWorker(2); }));
  for (int i = 0; i < 4; ++i) clock_.Advance(milliseconds(500));
  EXPECT_EQ(engine_->status().epoch, 1u);
  ASSERT_TRUE(engine_->Replan("").ok());
  ASSERT_TRUE(Reaches(2));
  EXPECT_GE(AssignmentOf({77}).stage, 0);
}

}  // namespace
}  // namespace thermocline::coordinator
