// An engine with workers that answer at once, and what its clients and observers hear.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "coordinator/engine.h"
#include "model/neuron_order.h"
#include "tests/support/fake_mailbox.h"
#include "tests/support/fake_pipeline.h"
#include "tests/support/patience.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::coordinator {

using std::chrono::seconds;
using testing::FakeMailbox;
using testing::FakePipeline;

inline constexpr int kVocab = 288;
// A prompt that begins with it takes the last stage's worker with it.
inline constexpr int32_t kPoison = 287;

// Waits in real time until `done`; the engine runs on its own thread.
inline bool Eventually(const std::function<bool()>& done) {
  const TimePoint give_up = SteadyClock().Now() + testing::kPatience;
  while (!done()) {
    if (SteadyClock().Now() > give_up) return false;
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
  void OnMeasuringLinks(const LinkSurvey& survey) override {
    Add(Str("measuring ", survey.n_pairs()));
  }
  void OnPlanning(const PlanJob& job) override {
    Add(Str("planning for ", job.cluster.workers.size()));
    const MutexLock lock(mutex_);
    planned_context_ = job.options.n_context;
  }
  void OnPlan(const PlanOutcome& planned) override {
    const MutexLock lock(mutex_);
    outcome_ = planned;
    lines_.push_back("plan");
  }
  void OnServing(const placement::Plan&) override { Add("serving"); }
  void OnNews(const std::string& line) override { Add("news: " + line); }
  void OnPlanChanged(const placement::Plan& plan, const PlanStatus& status) override {
    Add(Str("changed to epoch ", plan.epoch, ": ", status.why));
  }
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
  int64_t planned_context() const {
    const MutexLock lock(mutex_);
    return planned_context_;
  }
  PlanOutcome outcome() const {
    const MutexLock lock(mutex_);
    return outcome_;
  }
  placement::Plan plan() const { return outcome().plan; }

 private:
  void Add(const std::string& line) {
    const MutexLock lock(mutex_);
    lines_.push_back(line);
  }
  mutable Mutex mutex_;
  std::vector<std::string> lines_ GUARDED_BY(mutex_);
  PlanOutcome outcome_ GUARDED_BY(mutex_);
  int64_t planned_context_ GUARDED_BY(mutex_) = -1;
};

inline comm::PeerId PeerOf(uint64_t worker) { return {1000 + worker}; }

// Made once: random weights take longer than the tests.
inline const testing::TinyModelParts& FourLayers() {
  static const testing::TinyModelParts parts = testing::MakeTinyModelParts({.n_layer = 4});
  return parts;
}

// An engine with workers that answer at once, on the engine thread.
class EngineTest : public ::testing::Test {
 protected:
  explicit EngineTest(const testing::TinyModelParts& model = FourLayers())
      : model_(model),
        mailbox_([this](auto to, const auto& message) { return OnSend(to, message); }) {
    options_.expected = {{{1}, "node1"}, {{2}, "node2"}};
    options_.build = "b1";
    // A stage on each of two equal workers.
    options_.policy = placement::SplitPolicy::kPipelineOnly;
    options_.latency_weight = 0;
    options_.n_streams = 2;
    options_.plan.n_ctx = 64;
    options_.plan.n_parallel = 4;
    options_.plan.model_fingerprint = "f00";
    options_.model_path = "/models/tiny.gguf";
    // However long the clock goes on while the engine's other threads are stalled.
    options_.step_timeout = std::chrono::hours(1000);
  }
  ~EngineTest() override {
    if (engine_) engine_->Stop();
    EXPECT_THAT(pipeline_.violations(), ::testing::IsEmpty());
  }

  void StartEngine() {
    ASSERT_TRUE(options_.Validate().ok()) << options_.Validate();
    engine_ =
        std::make_unique<Engine>(Engine::Parts{options_, sources_, mailbox_, clock_, observer_});
    engine_->Start();
  }
  proto::Hello HelloOf(uint64_t id) const {
    proto::Hello hello{.build = "b1",
                       .wanted_id = WorkerId{id},
                       .host = Str("node", id),
                       .pid = 7,
                       .zmq_address = Str("tcp://node", id, ":1")};
    hello.profile = {
        .n_cores = 2, .memory_bytes = kGiB, .read_bytes_per_s = placement::Figure::Measured(1e9)};
    // So slow that two streams on one worker are no faster than one after the other.
    hello.profile.compute_rates = {{.flops_per_s = placement::Figure::Measured(2e8)}};
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
      const ServiceState state = engine_->status().state;
      return state == ServiceState::kReady || state == ServiceState::kFailed;
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
  // The clock goes on until `done`, and waits for the heartbeats of workers that live: an engine
  // that is stalled must not find them silent, nor late enough to be blamed otherwise.
  bool InTime(const std::function<bool()>& done) {
    return Eventually([&] {
      if (HaveBeaten()) clock_.Advance(std::chrono::milliseconds(20));
      return done();
    });
  }
  bool HaveBeaten() {
    const std::vector<WorkerStatus> workers = engine_->status().workers;
    const MutexLock lock(mutex_);
    for (const WorkerStatus& worker : workers) {
      const comm::PeerId peer = PeerOf(worker.id.value);
      if (worker.heartbeat_age_s >= 1 && silent_ != peer && dead_ != peer) return false;
    }
    return true;
  }
  bool WasToldToShutDown(uint64_t worker) {
    const MutexLock lock(mutex_);
    return shutdowns_.contains(PeerOf(worker));
  }

  // ---- The workers
  Status OnSend(comm::PeerId to, const proto::Message& message) {
    if (std::holds_alternative<proto::Heartbeat>(message)) OnHeartbeat();
    const MutexLock lock(mutex_);
    if (dead_ == to) return Unavailable("no such peer");
    if (const auto* assign = std::get_if<proto::AssignPlan>(&message)) OnAssign(to, *assign);
    if (const auto* step = std::get_if<proto::StepBatch>(&message)) OnStep(*step);
    if (const auto* probe = std::get_if<proto::ProbeLink>(&message)) OnProbe(to, *probe);
    if (std::holds_alternative<proto::Shutdown>(message)) shutdowns_.insert(to);
    if (const auto* stay = std::get_if<proto::Stay>(&message)) stays_[to] = stay->reason;
    if (const auto* table = std::get_if<proto::NeuronTable>(&message))
      tables_[to].push_back(*table);
    if (const auto* failure = std::get_if<proto::Failure>(&message)) {
      refusals_.insert_or_assign(to, failure->status);
    }
    if (std::holds_alternative<proto::Heartbeat>(message) && beats_ && silent_ != to) {
      mailbox_.Post(to, proto::Heartbeat{});
    }
    return OkStatus();
  }
  // On the engine thread, in the middle of its tick.
  void OnHeartbeat() {
    std::function<void()> then;
    {
      const MutexLock lock(mutex_);
      then = on_heartbeat_;
    }
    if (then) then();
  }
  void OnAssign(comm::PeerId to, const proto::AssignPlan& assign) REQUIRES(mutex_) {
    assignments_[to] = assign;
    if (assign.plan.epoch != epoch_) pipeline_.StartEpoch(assign.plan.epoch);
    is_down_ = is_down_ && assign.plan.epoch == epoch_;
    epoch_ = assign.plan.epoch;
    const bool leads = assign.stage >= 0 && assign.helper < 0;
    if (leads && assign.stage + 1 == int(assign.plan.stages.size())) last_stage_ = to;
    if (!loads_ || hangs_ == to) return;
    mailbox_.Post(to, proto::LoadProgress{.epoch = assign.plan.epoch, .bytes_total = 10});
    mailbox_.Post(to, proto::Ready{.epoch = assign.plan.epoch,
                                   .owned_bytes = 10,
                                   .read_bytes = 4,
                                   .neuron_order = OrderAt(to, assign),
                                   .kept_bytes = 6});
  }
  // In the file's order but for the tables that came.
  uint64_t OrderAt(comm::PeerId worker, const proto::AssignPlan& assign) REQUIRES(mutex_) {
    model::NeuronOrder& order = orders_[worker];
    order.layers.resize(static_cast<size_t>(model_.config.n_layer));
    for (const proto::NeuronTable& table : tables_[worker]) {
      order.layers[static_cast<size_t>(table.layer)] = table.neurons;
    }
    if (assign.stage < 0) return 0;
    const model::LayerRange& layers = assign.plan.stages[static_cast<size_t>(assign.stage)].layers;
    return model::ChecksumOf(order, layers.begin, layers.end);
  }
  void OnProbe(comm::PeerId to, const proto::ProbeLink& probe) REQUIRES(mutex_) {
    probes_.push_back({to, probe});
    if (!probes_links_) return;
    proto::LinkReport report{.round = probe.round, .peer = probe.peer, .message_s = 1e-5};
    if (probe.leads) report.round_trip_s = round_trip_s_;
    if (probe.leads) report.bytes_per_s = 1e9;
    mailbox_.Post(to, report);
  }
  // Whether the step begins a sequence whose prompt is poison.
  bool HasPoison(const proto::StepBatch& step) const {
    for (const proto::StepEntry& entry : step.entries) {
      if (entry.first_position == 0 && entry.tokens.front() == kPoison) return true;
    }
    return false;
  }
  void OnStep(const proto::StepBatch& step) REQUIRES(mutex_) {
    if (HasPoison(step)) {
      mailbox_.Post(last_stage_, proto::Failure{Unavailable("segmentation fault")});
      is_down_ = true;
    }
    if (is_down_) return;  // until the next plan
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

  const testing::TinyModelParts& model_;
  const std::vector<placement::NeuronHeat> heats_ = placement::UniformHeats(model_.config, 1);
  const PlanSources sources_{model_.config, model_.weights, nullptr, heats_};
  EngineOptions options_;
  ManualClock clock_;
  RecordingObserver observer_;
  Mutex mutex_;
  FakePipeline pipeline_{{.n_vocab = kVocab, .page_tokens = 16, .n_pages = 16, .n_ctx = 64}};
  std::map<comm::PeerId, proto::AssignPlan> assignments_ GUARDED_BY(mutex_);
  std::set<comm::PeerId> shutdowns_ GUARDED_BY(mutex_);
  std::map<comm::PeerId, Status> refusals_ GUARDED_BY(mutex_);
  std::map<comm::PeerId, std::string> stays_ GUARDED_BY(mutex_);
  std::map<comm::PeerId, std::vector<proto::NeuronTable>> tables_ GUARDED_BY(mutex_);
  std::map<comm::PeerId, model::NeuronOrder> orders_ GUARDED_BY(mutex_);
  Epoch epoch_ GUARDED_BY(mutex_){1};
  comm::PeerId last_stage_ GUARDED_BY(mutex_);
  std::optional<comm::PeerId> dead_ GUARDED_BY(mutex_);
  std::optional<comm::PeerId> silent_ GUARDED_BY(mutex_);
  std::optional<comm::PeerId> hangs_ GUARDED_BY(mutex_);  // while it loads; its heart beats
  bool loads_ GUARDED_BY(mutex_) = true;
  bool probes_links_ GUARDED_BY(mutex_) = true;
  double round_trip_s_ GUARDED_BY(mutex_) = 1e-4;
  std::vector<std::pair<comm::PeerId, proto::ProbeLink>> probes_ GUARDED_BY(mutex_);
  bool beats_ GUARDED_BY(mutex_) = false;
  bool is_down_ GUARDED_BY(mutex_) = false;  // the pipeline, by poison
  std::function<void()> on_heartbeat_ GUARDED_BY(mutex_);
  bool holds_ GUARDED_BY(mutex_) = false;
  std::vector<proto::StepResult> held_ GUARDED_BY(mutex_);
  FakeMailbox mailbox_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace thermocline::coordinator
