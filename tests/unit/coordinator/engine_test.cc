#include "coordinator/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <thread>

#include "base/str.h"
#include "base/units.h"
#include "tests/support/fake_mailbox.h"
#include "tests/support/fake_pipeline.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::coordinator {
namespace {

using std::chrono::seconds;
using testing::FakeMailbox;
using testing::FakePipeline;
using ::testing::HasSubstr;

constexpr int kVocab = 288;

// Waits in real time until `done`; the engine runs on its own thread.
bool Eventually(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + seconds(20);
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

// Thread-safe.
class RecordingSink final : public GenerationSink {
 public:
  void OnEvent(const GenerationEvent& event) override {
    const MutexLock lock(mutex_);
    if (finish_) ++n_after_finish_;
    if (event.token) tokens_.push_back(event.token->token);
    if (!event.finish) return;
    finish_ = event.finish;
    error_ = event.error;
  }
  std::optional<FinishReason> finish() const {
    const MutexLock lock(mutex_);
    return finish_;
  }
  std::vector<int32_t> tokens() const {
    const MutexLock lock(mutex_);
    return tokens_;
  }
  Status error() const {
    const MutexLock lock(mutex_);
    return error_;
  }
  int n_after_finish() const {
    const MutexLock lock(mutex_);
    return n_after_finish_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<int32_t> tokens_ GUARDED_BY(mutex_);
  std::optional<FinishReason> finish_ GUARDED_BY(mutex_);
  Status error_ GUARDED_BY(mutex_);
  int n_after_finish_ GUARDED_BY(mutex_) = 0;
};

class RecordingObserver final : public EngineObserver {
 public:
  void OnWorkerRefused(const std::string& host, const Status& why) override {
    Add("refused " + host + ": " + why.message());
  }
  void OnWorkerLeft(const WorkerStatus& worker, const Status& why) override {
    Add(Str("left ", worker.host, ": ", why.message()));
  }
  void OnPlan(const placement::Plan& plan) override {
    const MutexLock lock(mutex_);
    plan_ = plan;
    lines_.push_back("plan");
  }
  void OnServing(const placement::Plan&) override { Add("serving"); }
  void OnFailed(const Status& why) override { Add("failed: " + why.message()); }
  void OnStopped() override { Add("stopped"); }

  bool Heard(const std::string& part) const {
    const MutexLock lock(mutex_);
    for (const std::string& line : lines_) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }
  std::vector<std::string> lines() const {
    const MutexLock lock(mutex_);
    return lines_;
  }
  placement::Plan plan() const {
    const MutexLock lock(mutex_);
    return plan_;
  }

 private:
  void Add(const std::string& line) {
    const MutexLock lock(mutex_);
    lines_.push_back(line);
  }
  mutable Mutex mutex_;
  std::vector<std::string> lines_ GUARDED_BY(mutex_);
  placement::Plan plan_ GUARDED_BY(mutex_);
};

comm::PeerId PeerOf(uint64_t worker) { return {1000 + worker}; }

// Made once: random weights take longer than the tests.
const testing::TinyModelParts& FourLayers() {
  static const testing::TinyModelParts parts = testing::MakeTinyModelParts({.n_layer = 4});
  return parts;
}

// An engine with workers that answer at once, on the engine thread.
class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : mailbox_([this](auto to, const auto& message) { return OnSend(to, message); }) {
    options_.expected = {{{1}, "node1"}, {{2}, "node2"}};
    options_.build = "b1";
    options_.plan.n_ctx = 64;
    options_.plan.n_parallel = 4;
    options_.plan.model_fingerprint = "f00";
    options_.model_path = "/models/tiny.gguf";
  }
  ~EngineTest() override {
    if (engine_) engine_->Stop();
    EXPECT_THAT(pipeline_.violations(), ::testing::IsEmpty());
  }

  void StartEngine() {
    ASSERT_TRUE(options_.Validate().ok()) << options_.Validate();
    engine_ = std::make_unique<Engine>(
        Engine::Parts{options_, model_.config, model_.weights, mailbox_, clock_, observer_});
    engine_->Start();
  }
  proto::Hello HelloOf(uint64_t id) const {
    proto::Hello hello{.build = "b1",
                       .wanted_id = WorkerId{id},
                       .host = Str("node", id),
                       .pid = 7,
                       .zmq_address = Str("tcp://node", id, ":1")};
    hello.profile = {.n_cores = 2, .memory_bytes = kGiB, .read_bytes_per_s = placement::Figure::Measured(1e9)};
    return hello;
  }
  void Join() {
    for (const ExpectedWorker& worker : options_.expected) {
      mailbox_.Post(PeerOf(worker.id.value), HelloOf(worker.id.value));
    }
  }
  void StartServing() {
    StartEngine();
    Join();
    ASSERT_TRUE(Eventually([&] {
      return engine_->status().state != ServiceState::kStarting &&
             engine_->status().state != ServiceState::kLoading;
    }));
    ASSERT_EQ(engine_->status().state, ServiceState::kReady) << engine_->status().failure;
  }
  static GenerationRequest Request(int n_prompt, int max_tokens) {
    GenerationRequest request{.max_tokens = max_tokens};
    for (int i = 0; i < n_prompt; ++i) request.prompt.push_back(i);
    return request;
  }
  std::shared_ptr<RecordingSink> Submit(const GenerationRequest& request, SeqId* id = nullptr) {
    auto sink = std::make_shared<RecordingSink>();
    const auto submitted = engine_->Submit(request, sink);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    if (id != nullptr && submitted.ok()) *id = *submitted;
    return sink;
  }
  static std::vector<int32_t> Expected(const GenerationRequest& request) {
    std::vector<int32_t> tokens = request.prompt;
    for (int i = 0; i < request.max_tokens; ++i) {
      tokens.push_back(FakePipeline::NextToken(tokens, kVocab));
    }
    return {tokens.begin() + int64_t(request.prompt.size()), tokens.end()};
  }
  bool WasToldToShutDown(uint64_t worker) {
    const MutexLock lock(mutex_);
    return shutdowns_.contains(PeerOf(worker));
  }

  // ---- The workers
  Status OnSend(comm::PeerId to, const proto::Message& message) {
    const MutexLock lock(mutex_);
    if (dead_ == to) return Unavailable("no such peer");
    if (const auto* assign = std::get_if<proto::AssignPlan>(&message)) OnAssign(to, *assign);
    if (const auto* step = std::get_if<proto::StepBatch>(&message)) OnStep(*step);
    if (std::holds_alternative<proto::Shutdown>(message)) shutdowns_.insert(to);
    if (const auto* failure = std::get_if<proto::Failure>(&message)) {
      refusals_.insert_or_assign(to, failure->status);
    }
    if (std::holds_alternative<proto::Heartbeat>(message) && beats_ && silent_ != to) {
      mailbox_.Post(to, proto::Heartbeat{});
    }
    return OkStatus();
  }
  void OnAssign(comm::PeerId to, const proto::AssignPlan& assign) REQUIRES(mutex_) {
    assignments_[to] = assign;
    if (assign.stage + 1 == int(assign.plan.stages.size())) last_stage_ = to;
    if (!loads_) return;
    mailbox_.Post(to, proto::LoadProgress{.epoch = assign.plan.epoch, .bytes_total = 10});
    mailbox_.Post(to, proto::Ready{.epoch = assign.plan.epoch, .owned_bytes = 10});
  }
  void OnStep(const proto::StepBatch& step) REQUIRES(mutex_) {
    const proto::StepResult result = pipeline_.Run(step);
    if (holds_) {
      held_.push_back(result);
    } else if (!step.entries.empty()) {
      mailbox_.Post(last_stage_, result);
    }
  }
  void SetHolds(bool holds) {
    const MutexLock lock(mutex_);
    holds_ = holds;
    for (const proto::StepResult& result : held_) mailbox_.Post(last_stage_, result);
    held_.clear();
  }
  // Those held so far; what comes next is held again.
  void AnswerHeld() {
    const MutexLock lock(mutex_);
    for (const proto::StepResult& result : held_) mailbox_.Post(last_stage_, result);
    held_.clear();
  }
  size_t n_held() {
    const MutexLock lock(mutex_);
    return held_.size();
  }

  const testing::TinyModelParts& model_ = FourLayers();
  EngineOptions options_;
  ManualClock clock_;
  RecordingObserver observer_;
  Mutex mutex_;
  FakePipeline pipeline_{{.n_vocab = kVocab, .page_tokens = 16, .n_pages = 16, .n_ctx = 64}};
  std::map<comm::PeerId, proto::AssignPlan> assignments_ GUARDED_BY(mutex_);
  std::set<comm::PeerId> shutdowns_ GUARDED_BY(mutex_);
  std::map<comm::PeerId, Status> refusals_ GUARDED_BY(mutex_);
  comm::PeerId last_stage_ GUARDED_BY(mutex_);
  std::optional<comm::PeerId> dead_ GUARDED_BY(mutex_);
  std::optional<comm::PeerId> silent_ GUARDED_BY(mutex_);
  bool loads_ GUARDED_BY(mutex_) = true;
  bool beats_ GUARDED_BY(mutex_) = false;
  bool holds_ GUARDED_BY(mutex_) = false;
  std::vector<proto::StepResult> held_ GUARDED_BY(mutex_);
  FakeMailbox mailbox_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, GeneratesOverTwoStages) {
  StartServing();
  EXPECT_EQ(engine_->n_ctx(), 64);
  const GenerationRequest request = Request(5, 9);
  const auto sink = Submit(request);
  ASSERT_TRUE(Eventually([&] { return sink->finish().has_value(); }));
  EXPECT_EQ(sink->finish(), FinishReason::kLength);
  EXPECT_EQ(sink->tokens(), Expected(request));
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 9; }));
  const ServiceStatus status = engine_->status();
  EXPECT_EQ(status.prompt_tokens, 5u);
  EXPECT_EQ(status.kv_tokens_total, 256);
  EXPECT_EQ(status.kv_tokens_used, 0);
  EXPECT_EQ(status.last_token_age_s, 0);
  ASSERT_EQ(status.workers.size(), 2u);
  EXPECT_EQ(status.workers[1].host, "node2");
  EXPECT_EQ(status.workers[1].stage, 1);
}

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

TEST_F(EngineTest, ManyThreadsSubmitAndCancel) {
  StartServing();
  std::vector<std::shared_ptr<RecordingSink>> sinks(24);
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < 6; ++i) {
        SeqId id;
        sinks[t * 6 + i] = Submit(Request(3 + i, 20), &id);
        if (i % 3 == 2) engine_->Cancel(id);
        EXPECT_EQ(engine_->status().state, ServiceState::kReady);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (int i = 0; i < 24; ++i) {
    ASSERT_TRUE(Eventually([&] { return sinks[i]->finish().has_value(); })) << i;
    if (i % 3 == 2) continue;  // the cancel may come after the end
    EXPECT_EQ(sinks[i]->finish(), FinishReason::kLength);
    EXPECT_EQ(sinks[i]->tokens(), Expected(Request(3 + i % 6, 20)));
    EXPECT_EQ(sinks[i]->n_after_finish(), 0);
  }
  EXPECT_TRUE(Eventually([&] { return engine_->status().kv_tokens_used == 0; }));
}

TEST_F(EngineTest, CancelFreesTheKv) {
  StartServing();
  SetHolds(true);
  SeqId id;
  const auto sink = Submit(Request(5, 50), &id);
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Cancel(id);
  ASSERT_TRUE(Eventually([&] { return sink->finish() == FinishReason::kCancelled; }));
  SetHolds(false);
  EXPECT_TRUE(Eventually([&] {
    const MutexLock lock(mutex_);
    return pipeline_.n_sequences() == 0;
  }));
}

TEST_F(EngineTest, RefusesRequestsThatDoNotFitOrComeTooEarly) {
  {
    const MutexLock lock(mutex_);
    loads_ = false;
  }
  StartEngine();
  const auto sink = std::make_shared<RecordingSink>();
  EXPECT_THAT(engine_->Submit(Request(1, 1), sink).status().message(),
              HasSubstr("waiting for workers"));
  EXPECT_EQ(engine_->n_ctx(), 0);
  Join();
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kLoading; }));
  EXPECT_EQ(engine_->Submit(Request(1, 1), sink).status().code(), StatusCode::kUnavailable);
  for (const uint64_t id : {1, 2}) mailbox_.Post(PeerOf(id), proto::Ready{.epoch = {1}});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kReady; }));
  EXPECT_EQ(engine_->Submit(Request(60, 10), sink).status().code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(sink->finish().has_value());
}

TEST_F(EngineTest, FullQueueIsRefused) {
  options_.max_running = 1;
  options_.max_waiting = 1;
  StartServing();
  SetHolds(true);
  const auto first = Submit(Request(5, 3));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  ASSERT_TRUE(Eventually([&] { return engine_->status().n_running == 1; }));
  const auto second = Submit(Request(5, 3));
  EXPECT_EQ(engine_->Submit(Request(5, 3), first).status().code(), StatusCode::kResourceExhausted);
  SetHolds(false);
  EXPECT_TRUE(Eventually([&] { return first->finish() && second->finish(); }));
}

TEST_F(EngineTest, ManySequencesOfOneRequestAreAcceptedWhereTheyCanRun) {
  options_.max_running = 16;
  options_.max_waiting = 4;
  StartServing();
  SetHolds(true);
  const auto submit = [&](int n) {
    std::vector<SequenceSubmission> submissions;
    for (int i = 0; i < n; ++i) {
      submissions.push_back({Request(5, 3), std::make_shared<RecordingSink>()});
    }
    return engine_->SubmitAll(std::move(submissions));
  };
  EXPECT_EQ(submit(21).status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(submit(21).status().message(),
              HasSubstr("too many sequences at once: n=21 limit=20"));
  const auto all = submit(20);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->size(), 20u);
  EXPECT_EQ(submit(1).status().code(), StatusCode::kResourceExhausted);
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 60; }));
  // None of a request is accepted when one of it cannot be.
  const auto sink = std::make_shared<RecordingSink>();
  std::vector<SequenceSubmission> mixed = {{Request(5, 3), sink}, {Request(60, 10), sink}};
  EXPECT_EQ(engine_->SubmitAll(mixed).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(submit(20).ok());
  ASSERT_TRUE(Eventually([&] { return engine_->status().generated_tokens == 120; }));
  EXPECT_FALSE(sink->finish().has_value());
}

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
  EXPECT_TRUE(WasToldToShutDown(2));
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
  StartServing();
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(2);
  }
  mailbox_.Post(PeerOf(1), proto::Failure{Unavailable("connection to peer is lost: peer=2")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_THAT(engine_->status().failure.message(), HasSubstr("worker 2 on node2 is lost"));
}

TEST_F(EngineTest, WorkersFailureIsToldInOneLine) {
  StartServing();
  mailbox_.Post(PeerOf(2), proto::Failure{DataLoss("tensor outside file: blk.3")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.code(), StatusCode::kDataLoss);
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("worker 2 on node2 failed: tensor outside file: blk.3"));
}

TEST_F(EngineTest, WorkerThatLeavesOrCannotBeReachedIsLost) {
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
  StartServing();
  {
    const MutexLock lock(mutex_);
    dead_ = PeerOf(1);
  }
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("link closed by worker 1")});
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 1 on node1 is lost: its connection closed (the process ended?)");
}

TEST_F(EngineTest, ABrokenLinkAloneIsToldASecondLater) {
  StartServing();
  mailbox_.Post(PeerOf(2), proto::Failure{Unavailable("link closed by worker 1")});
  // The reporter ends itself, which is no evidence against it.
  mailbox_.Post(PeerOf(2), proto::Shutdown{.reason = "bye"});
  mailbox_.Post({77}, proto::Heartbeat{});
  ASSERT_TRUE(Eventually([&] { return engine_->status().stale_frames == 1; }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
  clock_.Advance(std::chrono::milliseconds(1100));
  ASSERT_TRUE(Eventually([&] { return engine_->status().state == ServiceState::kFailed; }));
  EXPECT_EQ(engine_->status().failure.message(),
            "worker 2 on node2 failed: link closed by worker 1");
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
  // In steps, so that the lead's heartbeats are seen.
  ASSERT_TRUE(Eventually([&] {
    clock_.Advance(std::chrono::milliseconds(20));
    return observer_.Heard("left node1: worker 1 on node1 is lost: no heartbeat for");
  }));
  EXPECT_EQ(engine_->status().state, ServiceState::kReady);
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
  ASSERT_TRUE(Eventually([&] {
    clock_.Advance(std::chrono::milliseconds(20));
    return sink->finish().has_value();
  }));
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
  EXPECT_THAT(engine_->status().failure.message(),
              HasSubstr("transport mpi needs every worker to be an MPI rank: worker 2 on node2"));
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
  EXPECT_TRUE(WasToldToShutDown(1));
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

TEST_F(EngineTest, DrainFinishesWhatRunsAndRefusesWhatIsNew) {
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Drain();
  EXPECT_THAT(engine_->Submit(Request(1, 1), sink).status().message(), HasSubstr("draining"));
  SetHolds(false);
  ASSERT_TRUE(Eventually([&] { return observer_.Heard("stopped"); }));
  EXPECT_EQ(sink->finish(), FinishReason::kLength);
  EXPECT_EQ(sink->tokens(), Expected(Request(5, 9)));
  EXPECT_TRUE(WasToldToShutDown(1));
  EXPECT_TRUE(WasToldToShutDown(2));
}

TEST_F(EngineTest, DrainEndsAtItsDeadline) {
  {
    const MutexLock lock(mutex_);
    beats_ = true;
  }
  options_.drain_deadline = seconds(2);
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  engine_->Drain();
  // The deadline counts from when the engine has seen the drain, so time goes on until then.
  ASSERT_TRUE(Eventually([&] {
    clock_.Advance(std::chrono::milliseconds(100));
    return observer_.Heard("stopped");
  }));
  EXPECT_EQ(sink->finish(), FinishReason::kError);
  EXPECT_THAT(sink->error().message(), HasSubstr("deadline"));
}

TEST_F(EngineTest, StopEndsSequencesAndWorkersQuickly) {
  StartServing();
  SetHolds(true);
  const auto sink = Submit(Request(5, 9));
  ASSERT_TRUE(Eventually([&] { return n_held() == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  engine_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(500));
  EXPECT_EQ(sink->finish(), FinishReason::kError);
  EXPECT_TRUE(WasToldToShutDown(1));
  EXPECT_TRUE(WasToldToShutDown(2));
  EXPECT_TRUE(observer_.Heard("stopped"));
  EXPECT_EQ(engine_->Submit(Request(1, 1), sink).status().code(), StatusCode::kUnavailable);
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
}

}  // namespace
}  // namespace thermocline::coordinator
