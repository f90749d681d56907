// Until the service is ready: workers that join or are refused, plans, options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/coordinator/engine_fixture.h"

namespace thermocline::coordinator {
namespace {

using ::testing::HasSubstr;

TEST_F(EngineTest, AssignsStagesWithTheirNeighboursAddresses) {
  StartServing();
  const MutexLock lock(mutex_);
  const proto::AssignPlan& first = assignments_.at(PeerOf(1));
  const proto::AssignPlan& second = assignments_.at(PeerOf(2));
  EXPECT_EQ(first.stage, 0);
  EXPECT_EQ(first.previous_address, "");
  EXPECT_EQ(first.next_address, "tcp://node2:1");
  EXPECT_EQ(second.stage, 1);
  EXPECT_EQ(second.previous_address, "tcp://node1:1");
  EXPECT_EQ(second.next_address, "");
  EXPECT_EQ(second.model_path, "/models/tiny.gguf");
  EXPECT_EQ(second.plan.model_fingerprint, "f00");
  EXPECT_EQ(second.plan, observer_.plan());
}

// Members of a stage get the place that its lead told, once: a later plan needs another.
TEST_F(EngineTest, MembersOfAStageMeetWhereItsLeadSays) {
  const std::string ids[] = {std::string(proto::kNcclIdBytes, 'a'),
                             std::string(proto::kNcclIdBytes, 'b')};
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4],
                                      "helpers":[{"worker":1,"neurons":[64,128]}]}]})";
  StartEngine();
  for (const uint64_t id : {1, 2}) {
    proto::Hello hello = HelloOf(id);
    hello.nccl_id = ids[id - 1];
    hello.nccl_version = "2.28.9";
    hello.gpu_uuid = std::to_string(id);
    mailbox_.Post(PeerOf(id), hello);
  }
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("serving"); })) << engine_->status().failure;
  {
    const MutexLock lock(mutex_);
    EXPECT_EQ(assignments_.at(PeerOf(1)).nccl_id, ids[1]);
    EXPECT_EQ(assignments_.at(PeerOf(2)).nccl_id, ids[1]);
  }
  ASSERT_TRUE(engine_
                  ->Replan(R"({"stages":[{"lead":2,"layers":[0,4],
                                              "helpers":[{"worker":1,"neurons":[96,128]}]}]})")
                  .ok());
  ASSERT_TRUE(Eventually([&] {
    const MutexLock lock(mutex_);
    return assignments_.at(PeerOf(1)).plan.epoch == Epoch{2};
  }));
  const MutexLock lock(mutex_);
  EXPECT_EQ(assignments_.at(PeerOf(1)).nccl_id, "") << "used twice";
}

// The same of stages that follow each other.
TEST_F(EngineTest, StagesOnGpusMeetWhereTheFirstSays) {
  const std::string id(proto::kNcclIdBytes, 'a');
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,2]},{"lead":1,"layers":[2,4]}]})";
  StartEngine();
  for (const uint64_t worker : {1, 2}) {
    proto::Hello hello = HelloOf(worker);
    if (worker == 2) hello.nccl_link_id = id;
    hello.nccl_version = "2.28.9";
    hello.gpu_uuid = std::to_string(worker);
    mailbox_.Post(PeerOf(worker), hello);
  }
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("serving"); })) << engine_->status().failure;
  {
    const MutexLock lock(mutex_);
    EXPECT_EQ(assignments_.at(PeerOf(2)).next_nccl_id, id);
    EXPECT_EQ(assignments_.at(PeerOf(2)).previous_nccl_id, "");
    EXPECT_EQ(assignments_.at(PeerOf(1)).previous_nccl_id, id);
    EXPECT_EQ(assignments_.at(PeerOf(1)).next_nccl_id, "");
  }
  ASSERT_TRUE(
      engine_->Replan(R"({"stages":[{"lead":2,"layers":[0,3]},{"lead":1,"layers":[3,4]}]})").ok());
  ASSERT_TRUE(Eventually([&] {
    const MutexLock lock(mutex_);
    return assignments_.at(PeerOf(1)).plan.epoch == Epoch{2};
  }));
  const MutexLock lock(mutex_);
  EXPECT_EQ(assignments_.at(PeerOf(1)).previous_nccl_id, "") << "used twice";
}

TEST_F(EngineTest, PlansForTheStreamsAndSaysWhatItExpects) {
  options_.n_streams = 5;
  StartServing();
  EXPECT_TRUE(Eventually([&] { return observer_.Heard("serving"); }));
  EXPECT_THAT(observer_.lines(),
              ::testing::ElementsAre("measuring 1", "planning for 2", "plan", "serving"));
  const PlanOutcome outcome = observer_.outcome();
  EXPECT_EQ(outcome.forecast.n_sequences, 3);  // two steps share the five
  const auto expected = engine_->status().expected;
  ASSERT_TRUE(expected.has_value());
  EXPECT_EQ(expected->step_s, outcome.forecast.step_s);
  EXPECT_EQ(expected->stage_s.size(), 2u);
  EXPECT_EQ(expected->n_streams, 5);
  EXPECT_EQ(expected->tokens_per_s, outcome.speed.all_tokens_per_s);
  EXPECT_EQ(expected->one_stream_tokens_per_s, outcome.speed.one_tokens_per_s);
  EXPECT_EQ(outcome.cluster.links.size(), 2u);
}

TEST_F(EngineTest, PlansForHalfOfTheContextThatStreamsMayHave) {
  options_.plan.n_ctx = 64;
  StartServing();
  EXPECT_EQ(observer_.planned_context(), 32);
}

TEST_F(EngineTest, PlansForTheContextThatItIsTold) {
  options_.n_context = 7;
  StartServing();
  EXPECT_EQ(observer_.planned_context(), 7);
}

// 20 workers that all differ: planning for them takes longer than these tests.
class PlanningEngineTest : public EngineTest {
 protected:
  static constexpr uint64_t kWorkers = 20;
  PlanningEngineTest() {
    options_.policy = placement::SplitPolicy::kOptimal;
    options_.expected.clear();
    for (uint64_t id = 1; id <= kWorkers; ++id) options_.expected.push_back({{id}, ""});
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  void JoinAll() {
    for (uint64_t id = 1; id <= kWorkers; ++id) {
      proto::Hello hello = HelloOf(id);
      hello.profile.read_bytes_per_s.value /= static_cast<double>(id);
      mailbox_.Post(PeerOf(id), hello);
    }
  }
};

TEST_F(PlanningEngineTest, HeartbeatsGoOnAndItEndsWhenToldTo) {
  StartEngine();
  JoinAll();
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("planning for 20"); }));
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(seconds(4));
    ASSERT_TRUE(Eventually([&] {
      const auto workers = engine_->status().workers;
      return std::all_of(workers.begin(), workers.end(),
                         [](const WorkerStatus& worker) { return worker.heartbeat_age_s == 0; });
    }));
  }
  EXPECT_NE(engine_->status().state, ServiceState::kFailed) << engine_->status().failure;
  engine_->Stop();
  EXPECT_TRUE(observer_.Heard("stopped"));
}

TEST_F(PlanningEngineTest, AWorkerThatLeavesMeanwhileEndsTheService) {
  {
    const MutexLock lock(mutex_);
    loads_ = false;  // should the plan come first
  }
  StartEngine();
  JoinAll();
  mailbox_.Post(PeerOf(1), proto::Shutdown{.reason = "enough"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(), HasSubstr("worker 1 on node1 is leaving"));
  EXPECT_FALSE(observer_.Heard("serving"));
}

TEST_F(EngineTest, LinksAreMeasuredWithTheTransportOfThePlan) {
  StartServing();
  const PlanOutcome outcome = observer_.outcome();
  for (const placement::LinkProfile& link : outcome.cluster.links) {
    EXPECT_EQ(link.latency_s.origin, placement::Origin::kMeasured);
    EXPECT_NEAR(link.latency_s.value, 4e-5, 1e-12);  // of 100 us two messages take 20
  }
  const MutexLock lock(mutex_);
  ASSERT_EQ(probes_.size(), 2u);
  for (const auto& [to, probe] : probes_) {
    EXPECT_EQ(probe.transport, placement::LinkKind::kZmq);
    EXPECT_EQ(probe.leads, to == PeerOf(1));
    EXPECT_EQ(probe.address, Str("tcp://node", probe.peer, ":1"));
  }
}

TEST_F(EngineTest, WorkersThatCannotTalkEndTheServiceByName) {
  {
    const MutexLock lock(mutex_);
    probes_links_ = false;
  }
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("measuring 1"); }));
  mailbox_.Post(PeerOf(2), proto::LinkReport{.peer = {1}, .error = "nobody there"});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 1 on node1 and worker 2 on node2 cannot talk over zmq: worker 2 says: nobody "
            "there");
}

TEST_F(EngineTest, AProbeThatHangsEndsTheServiceInTime) {
  {
    const MutexLock lock(mutex_);
    probes_links_ = false;
    beats_ = true;
  }
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("measuring 1"); }));
  clock_.Advance(seconds(3));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("worker 1 on node1 and worker 2 on node2 cannot talk over zmq: nothing"));
}

TEST_F(EngineTest, AClusterFileStandsInForMeasuring) {
  options_.cluster.emplace();
  for (uint64_t id : {1, 2}) options_.cluster->workers.push_back({.id = {id}});
  options_.cluster->links = {
      {.from = {1}, .to = {2}, .latency_s = {3e-3, placement::Origin::kGiven}}};
  StartServing();
  EXPECT_FALSE(observer_.Heard("measuring"));
  const placement::ClusterProfile cluster = observer_.outcome().cluster;
  EXPECT_EQ(cluster.FindLink({1}, {2})->latency_s.value, 3e-3);
  EXPECT_EQ(cluster.FindLink({2}, {1})->latency_s.origin, placement::Origin::kAssumed);
  EXPECT_EQ(cluster.workers[0].memory_bytes, kGiB);
}

TEST_F(EngineTest, AClusterFileOfOtherWorkersIsRefused) {
  options_.cluster.emplace();
  options_.cluster_name = "--cluster c.yaml";
  options_.cluster->workers.push_back({.id = {1}, .host = "elsewhere"});
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "--cluster c.yaml: the cluster file is of other workers: it has 1 on elsewhere; joined "
            "have 1 on node1, 2 on node2: without --cluster they are measured");
}

// As one that was saved when a third had joined, edited for a second that is another one now.
TEST_F(EngineTest, AClusterFileOfSomeOfTheWorkersIsTakenForThemAndTheOthersAreMeasured) {
  options_.expected.push_back({{3}, "node3"});
  options_.cluster.emplace();
  options_.cluster_name = "--cluster c.yaml";
  for (const auto& [id, host] : {std::pair(1, "node1"), {2, "elsewhere"}, {3, "node3"}}) {
    options_.cluster->workers.push_back({.id = {static_cast<uint64_t>(id)}, .host = host});
  }
  for (const uint64_t to : {2, 3}) {
    options_.cluster->links.push_back(
        {.from = {1}, .to = {to}, .latency_s = {3e-3, placement::Origin::kGiven}});
  }
  StartServing();
  EXPECT_TRUE(observer_.Heard(
      "news: --cluster c.yaml: what it says of workers that are not here is ignored: 2 on "
      "elsewhere; workers that it does not know are measured: 2 on node2"));
  EXPECT_TRUE(observer_.Heard("measuring 2"));
  const placement::ClusterProfile cluster = observer_.outcome().cluster;
  const auto origin = [&](uint64_t from, uint64_t to) {
    return cluster.FindLink({from}, {to})->latency_s.origin;
  };
  EXPECT_EQ(cluster.FindLink({1}, {3})->latency_s.value, 3e-3);
  for (const uint64_t other : {1, 3}) {
    EXPECT_EQ(origin(2, other), placement::Origin::kMeasured);
    EXPECT_EQ(origin(other, 2), placement::Origin::kMeasured);
  }
  EXPECT_EQ(origin(3, 1), placement::Origin::kAssumed) << "neither given nor asked for";
}

TEST_F(EngineTest, MissingWorkersAreNamed) {
  StartEngine();
  mailbox_.Post(PeerOf(1), HelloOf(1));
  ASSERT_TRUE(Eventually([&] { return engine_->status().workers.size() == 1; }));
  clock_.Advance(seconds(61));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(), HasSubstr("missing: worker 2 on node2"));
}

TEST_F(EngineTest, MpiTransportNeedsMpiRanks) {
  options_.plan.link = placement::LinkKind::kMpi;
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(
      engine_->status().failure.message(),
      HasSubstr("transport mpi needs both ends to be MPI ranks: worker 1 on node1 is none"));
}

TEST_F(EngineTest, HandWrittenPlanIsFollowedAndTheOtherWorkerStaysSpare) {
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,4]}]})";
  StartServing();
  const placement::Plan plan = observer_.plan();
  ASSERT_EQ(plan.stages.size(), 1u);
  EXPECT_EQ(plan.stages[0].lead, WorkerId{2});
  EXPECT_EQ(plan.epoch, Epoch{1});
  const MutexLock lock(mutex_);
  EXPECT_EQ(assignments_.at(PeerOf(1)).stage, -1);
}

TEST_F(EngineTest, ImpossiblePlanFails) {
  options_.plan_json = R"({"stages":[{"lead":2,"layers":[0,3]}]})";
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("stages do not end with the last layer"));
}

TEST_F(EngineTest, StrangersAndStaleEpochsAreDroppedAndCounted) {
  StartServing();
  const uint64_t before = engine_->status().stale_frames;
  mailbox_.PostBytes({77}, {std::byte{255}});
  mailbox_.Post({77}, proto::Heartbeat{});
  mailbox_.Post(PeerOf(2), proto::StepResult{.epoch = {0}, .step = {1}});
  mailbox_.Post(PeerOf(1), proto::StepResult{.epoch = {1}, .step = {1}});  // not the last stage
  mailbox_.Post(PeerOf(2), proto::StepResult{.epoch = {1}, .step = {99}, .entries = {{}}});
  mailbox_.Post(PeerOf(2), proto::Welcome{});
  EXPECT_TRUE(Eventually([&] { return engine_->status().stale_frames == before + 6; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
}

TEST_F(EngineTest, MalformedMessageOfAWorkerFails) {
  options_.replan = ReplanMode::kOff;
  StartServing();
  mailbox_.PostBytes(PeerOf(2), {std::byte{255}});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(), HasSubstr("worker 2 on node2: message is not"));
}

TEST_F(EngineTest, RefusedWorkerIsToldWhy) {
  StartServing();
  mailbox_.Post({77}, HelloOf(2));
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("refused node2: worker id is taken"); }));
  EXPECT_TRUE(Eventually([&] {
    const MutexLock lock(mutex_);
    return refusals_.contains(comm::PeerId{77});
  }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
  const MutexLock lock(mutex_);
  EXPECT_EQ(refusals_.at(comm::PeerId{77}).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refusals_.at(comm::PeerId{77}).message(), HasSubstr("worker id is taken"));
  EXPECT_FALSE(shutdowns_.contains(comm::PeerId{77}));
}

TEST_F(EngineTest, ALaunchWhoseRankIsRefusedFailsAtOnce) {
  StartEngine();
  proto::Hello other = HelloOf(2);
  other.build = "b2";
  mailbox_.Post(PeerOf(1), HelloOf(1));
  mailbox_.Post(PeerOf(2), other);
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 2 on node2 cannot join: builds differ: worker=b2 coordinator=b1");
  EXPECT_TRUE(Eventually([&] { return WasToldToShutDown(1); }));
  const MutexLock lock(mutex_);
  EXPECT_EQ(refusals_.at(PeerOf(2)).code(), StatusCode::kInvalidArgument);
}

TEST_F(EngineTest, ARefusedWorkerWithoutARankCanBeReplaced) {
  StartEngine();
  proto::Hello other = HelloOf(2);
  other.wanted_id.reset();
  other.build = "b2";
  mailbox_.Post({77}, other);
  Join();
  EXPECT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
}

TEST(EngineOptions, ValidateNamesTheField) {
  EngineOptions options;
  EXPECT_THAT(options.Validate().message(), HasSubstr("no workers"));
  options.expected = {{{1}, ""}};
  EXPECT_TRUE(options.Validate().ok());
  options.max_step_tokens = 1;
  EXPECT_THAT(options.Validate().message(),
              HasSubstr("--batch-size out of range: 1 is not in 2..8192"));
  options.max_step_tokens = 16;
  EXPECT_THAT(options.Validate().message(), HasSubstr("--prefill-chunk out of range"));
  options.prefill_chunk = 8;
  options.heartbeat_expiry = options.heartbeat_interval;
  EXPECT_THAT(options.Validate().message(), HasSubstr("heartbeat_expiry"));
  options.heartbeat_expiry = seconds(5);
  options.plan.n_parallel = 0;
  EXPECT_THAT(options.Validate().message(), HasSubstr("--parallel out of range: 0"));
  options.plan.n_parallel = 1;
  options.plan.n_ctx = -1;
  EXPECT_THAT(options.Validate().message(), HasSubstr("--ctx-size out of range: -1"));
  options.plan.n_ctx = 0;
  options.step_timeout = seconds(0);
  EXPECT_THAT(options.Validate().message(), HasSubstr("step_timeout"));
  options.step_timeout = seconds(1);
  options.load_timeout = seconds(0);
  EXPECT_THAT(options.Validate().message(), HasSubstr("--load-timeout must exceed 0"));
}

TEST_F(EngineTest, AWorkerThatHangsWithTheFirstPlanEndsTheService) {
  options_.load_timeout = seconds(4);
  {
    const MutexLock lock(mutex_);
    beats_ = true;
    hangs_ = PeerOf(2);
  }
  StartEngine();
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kLoading; }));
  clock_.Advance(seconds(4));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.code(), StatusCode::kDeadlineExceeded);
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("worker 2 on node2 has loaded nothing more for 4 s"));
}

}  // namespace
}  // namespace thermocline::coordinator
