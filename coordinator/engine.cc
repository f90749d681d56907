// The engine's public face and its loop. Messages are in engine_messages.cc, losses in
// engine_liveness.cc, the way from complete membership to serving in engine_plan.cc, that from one
// plan to the next in engine_change.cc, that around lost workers in engine_loss.cc.
#include "coordinator/engine.h"

#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "placement/context.h"
#include "proto/codec.h"

namespace thermocline::coordinator {
namespace {

// Frames handled before new requests and the clock are looked at again.
constexpr int kFramesPerLoop = 64;
// A worker looks at its mailbox at once, and has a hundredth of a second of spans to send.
constexpr Duration kLastSpansWait = std::chrono::milliseconds(200);

Status CheckOption(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return OkStatus();
  return InvalidArgument(Str(name, " out of range: ", value, " is not in ", low, "..", high));
}

Status NotServing(const ServiceStatus& status) {
  switch (status.state) {
    case ServiceState::kStarting:
      return Unavailable("waiting for workers to join");
    case ServiceState::kPlanning:
      return Unavailable("planning which worker holds what");
    case ServiceState::kLoading:
      return Unavailable("loading the model");
    case ServiceState::kDraining:
      return Unavailable("draining: no new requests");
    case ServiceState::kFailed:
      return Unavailable(status.failure.message());
    case ServiceState::kReady:
      break;
  }
  return OkStatus();
}

GenerationEvent ErrorEvent(const Status& why) {
  return {.finish = FinishReason::kError, .error = why};
}

}  // namespace

Status EngineOptions::Validate() const {
  if (expected.empty()) return InvalidArgument("no workers are expected");
  TC_RETURN_IF_ERROR(CheckOption("--max-waiting", max_waiting, 0, 1 << 20));
  TC_RETURN_IF_ERROR(CheckOption("--ctx-size", plan.n_ctx, 0, placement::kMaxContextTokens));
  TC_RETURN_IF_ERROR(CheckOption("--parallel", plan.n_parallel, 1, placement::kMaxParallel));
  TC_RETURN_IF_ERROR(CheckOption("--streams", n_streams, 1, placement::kMaxParallel));
  TC_RETURN_IF_ERROR(CheckOption("max_running", max_running, 1, proto::kMaxStepTokens));
  TC_RETURN_IF_ERROR(CheckOption("max_in_flight", max_in_flight, 0, proto::kMaxStepsInFlight));
  TC_RETURN_IF_ERROR(CheckOption("--batch-size", max_step_tokens, 2, proto::kMaxStepTokens));
  TC_RETURN_IF_ERROR(CheckOption("--prefill-chunk", prefill_chunk, 1, max_step_tokens));
  if (heartbeat_interval <= Duration(0) || heartbeat_expiry <= heartbeat_interval) {
    return InvalidArgument(Str("heartbeat_expiry must exceed heartbeat_interval, and that 0:",
                               Kv("interval_s", Seconds(heartbeat_interval)),
                               Kv("expiry_s", Seconds(heartbeat_expiry))));
  }
  for (const auto& [name, timeout] :
       {std::pair("step_timeout", step_timeout), std::pair("--load-timeout", load_timeout),
        std::pair("--replan-interval", replan_interval)}) {
    if (timeout > Duration(0)) continue;
    return InvalidArgument(Str(name, " must exceed 0:", Kv("timeout_s", Seconds(timeout))));
  }
  return OkStatus();
}

Engine::Engine(const Parts& parts)
    : options_(parts.options),
      sources_(parts.sources),
      mailbox_(parts.mailbox),
      clock_(parts.clock),
      observer_(parts.observer),
      trace_(parts.trace),
      given_(placement::TransportsOfText(parts.options.plan_json)),
      membership_({.expected = parts.options.expected,
                   .build = parts.options.build,
                   .join_timeout = parts.options.join_timeout,
                   .heartbeat_expiry = parts.options.heartbeat_expiry},
                  parts.clock.Now()),
      next_tick_(parts.clock.Now()),
      live_heat_(parts.sources.config.n_layer, parts.sources.config.n_ff),
      planned_heats_(parts.sources.heats) {
  if (sources_.order != nullptr) order_ = *sources_.order;
}

Engine::~Engine() { Stop(); }

void Engine::Start() {
  CHECK(!thread_.joinable());
  thread_ = std::thread([this] { Run(); });
}

void Engine::Drain() {
  {
    const MutexLock lock(mutex_);
    if (status_.state == ServiceState::kFailed) return;
    status_.state = ServiceState::kDraining;
    inbox_.drain = true;
  }
  mailbox_.Wake();
}

void Engine::Stop() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mutex_);
    inbox_.stop = true;
  }
  mailbox_.Wake();
  thread_.join();
}

Result<std::vector<SeqId>> Engine::SubmitAll(std::vector<SequenceSubmission> submissions) {
  SchedulerOptions limits;
  {
    const MutexLock lock(mutex_);
    TC_RETURN_IF_ERROR(NotServing(status_));
    limits = limits_;
  }
  for (const SequenceSubmission& submission : submissions) {
    TC_RETURN_IF_ERROR(Scheduler::CheckFits(limits, submission.request));
  }
  std::vector<SeqId> ids;
  {
    const MutexLock lock(mutex_);
    TC_RETURN_IF_ERROR(NotServing(status_));
    TC_RETURN_IF_ERROR(CheckRoom(submissions.size()));
    for (SequenceSubmission& submission : submissions) {
      ids.push_back({++last_seq_.value});
      inbox_.submissions.push_back({ids.back(), std::move(submission)});
    }
  }
  mailbox_.Wake();
  return ids;
}

// While nobody queues for KV, sequences up to max_running start at once and do not count as
// waiting. So an idle service takes every request that is not larger than it ever takes.
Status Engine::CheckRoom(size_t n_new) const {
  const int64_t n = static_cast<int64_t>(n_new);
  const int64_t most = int64_t{options_.max_waiting} + options_.max_running;
  if (n > most) {
    return InvalidArgument(Str("too many sequences at once:", Kv("n", n), Kv("limit", most)));
  }
  const int64_t n_waiting = static_cast<int64_t>(inbox_.submissions.size()) + status_.n_waiting;
  const int64_t n_free = n_queued_ == 0 ? options_.max_running - status_.n_running : 0;
  if (n_waiting + n <= options_.max_waiting + n_free) return OkStatus();
  return ResourceExhausted(Str("queue is full:", Kv("waiting", n_waiting), Kv("new", n),
                               Kv("limit", options_.max_waiting)));
}

void Engine::Cancel(SeqId seq) {
  {
    const MutexLock lock(mutex_);
    inbox_.cancels.push_back(seq);
  }
  mailbox_.Wake();
}

ServiceStatus Engine::status() const {
  const TimePoint now = clock_.Now();
  const MutexLock lock(mutex_);
  ServiceStatus status = status_;
  const bool idle = status.n_running + status.n_waiting == 0;
  status.last_token_age_s = idle ? 0 : Seconds(now - progress_at_);
  status.plan.age_s = Seconds(now - changed_at_);
  for (WorkerStatus& worker : status.workers) {
    worker.heartbeat_age_s += Seconds(now - status_at_);
  }
  return status;
}

Result<ReplanAnswer> Engine::Replan(std::string plan_json) {
  if (options_.replan == ReplanMode::kOff) {
    return Unavailable("this service was told to keep its plan (--replan off)");
  }
  PlanCheck check;
  {
    const MutexLock lock(mutex_);
    TC_RETURN_IF_ERROR(NotServing(status_));
    check = plan_check_;
  }
  if (!plan_json.empty()) {
    TC_ASSIGN_OR_RETURN(const bool is_another, IsAnotherPlan(sources_, check, plan_json));
    if (!is_another) return ReplanAnswer::kServesAlready;
  }
  {
    const MutexLock lock(mutex_);
    TC_RETURN_IF_ERROR(NotServing(status_));
    if (status_.plan.is_changing || inbox_.replan) return Unavailable("the plan is changing now");
    inbox_.replan = std::move(plan_json);
  }
  mailbox_.Wake();
  return ReplanAnswer::kAccepted;
}

int Engine::n_ctx() const {
  const MutexLock lock(mutex_);
  return limits_.n_ctx;
}

// ---- The loop

void Engine::Run() {
  while (running_) {
    HandleInbox();
    if (running_) HandleTick();
    if (running_) HandlePlanned();
    if (running_) Schedule();
    if (running_) HandleDrain();
    Publish();
    if (running_) ReceiveFrames();
  }
  Publish();
  if (trace_ != nullptr) CollectLastSpans();
}

// Workers that have been told to end say what they did until then.
void Engine::CollectLastSpans() {
  const TimePoint until = clock_.Now() + kLastSpansWait;
  while (true) {
    auto received = mailbox_.Receive(until);
    if (!received.ok() || !received->has_value()) break;
    const auto message = proto::Decode((*received)->frame.header);
    if (!message.ok()) continue;
    if (const auto* spans = std::get_if<proto::TraceSpans>(&*message)) {
      if (!On((*received)->from, *spans).ok()) break;
    }
  }
  trace_->Flush();
}

void Engine::HandleInbox() {
  Inbox inbox;
  {
    const MutexLock lock(mutex_);
    std::swap(inbox, inbox_);
    status_.n_waiting += static_cast<int>(inbox.submissions.size());
  }
  if (inbox.drain && !drain_until_) drain_until_ = clock_.Now() + options_.drain_deadline;
  for (Submission& submission : inbox.submissions) Accept(std::move(submission));
  for (const SeqId seq : inbox.cancels) {
    if (!scheduler_) break;
    SchedulerActions actions;
    scheduler_->Cancel(seq, &actions);
    Act(actions);
  }
  if (inbox.replan) asked_plan_ = std::move(inbox.replan);
  if (const Status status = StartAskedPlan(); !status.ok()) return Fail(status);
  if (!inbox.stop) return;
  End(Aborted("service is stopping"), ServiceState::kDraining);
  observer_.OnStopped();
}

void Engine::Accept(Submission submission) {
  if (sinks_.empty()) last_progress_at_ = clock_.Now();
  auto& [request, sink] = submission.sequence;
  const Status accepted = scheduler_->Submit(submission.id, std::move(request));
  if (!accepted.ok()) return sink->OnEvent(ErrorEvent(accepted));
  sinks_.emplace(submission.id, std::move(sink));
}

void Engine::HandleDrain() {
  if (!drain_until_) return;
  const bool idle = scheduler_ == nullptr || scheduler_->idle();
  if (!idle && clock_.Now() < *drain_until_) return;
  End(Aborted("service has drained: its deadline is over"), ServiceState::kDraining);
  observer_.OnStopped();
}

void Engine::ReceiveFrames() {
  TimePoint deadline = next_tick_;
  for (int i = 0; i < kFramesPerLoop; ++i) {
    auto received = mailbox_.Receive(deadline);
    if (!received.ok()) return Fail(received.status().WithContext("control plane"));
    if (!received->has_value()) return;
    if (const Status status = HandleFrame(**received); !status.ok()) return Fail(status);
    deadline = clock_.Now();
  }
}

void Engine::Schedule() {
  if (!scheduler_) return;
  if (change_ || loss_) {
    const Status status = change_ ? ContinueChange() : PlanAround();
    if (!status.ok()) Fail(status);
    return;
  }
  SchedulerActions actions;
  scheduler_->Schedule(&actions);
  Act(actions);
}

void Engine::Act(const SchedulerActions& actions) {
  for (const auto& [seq, event] : actions.events) Deliver(seq, event);
  for (const proto::StepBatch& step : actions.steps) {
    if (loss_) return;
    NoteStep(step);
    const Status sent = SendToWorker(plan_.stages.front().lead, step);
    if (!sent.ok()) {
      const Status lost = Lose(plan_.stages.front().lead, sent);
      if (!lost.ok()) return Fail(lost);
    }
  }
}

void Engine::Deliver(SeqId seq, const GenerationEvent& event) {
  const auto found = sinks_.find(seq);
  if (found == sinks_.end()) return;
  found->second->OnEvent(event);
  if (event.finish) sinks_.erase(found);
}

// For the next one who gives a plan.
void Engine::PublishPlanCheck() {
  PlanWish wish{.plan_json = "given"};
  Result<PlanJob> job = JobOf(&wish);
  if (!job.ok()) return;  // nobody stays: the service ends
  PlanCheck check{.job = *std::move(job), .serves = plan_, .order = order_};
  for (const WorkerId id : membership_.ids()) check.workers.emplace(id, membership_.hello(id));
  checked_version_ = membership_.version();
  const MutexLock lock(mutex_);
  plan_check_ = std::move(check);
}

void Engine::Publish() {
  if (scheduler_ && checked_version_ != membership_.version()) PublishPlanCheck();
  const TimePoint now = clock_.Now();
  std::vector<WorkerStatus> workers;
  if (workers_changed_) workers = membership_.Statuses(now);
  const SchedulerCounts counts = scheduler_ ? scheduler_->counts() : SchedulerCounts();
  const MutexLock lock(mutex_);
  if (std::exchange(workers_changed_, false)) {
    status_.workers = std::move(workers);
    status_at_ = now;
  }
  progress_at_ = last_progress_at_;
  status_.n_running = counts.n_running;
  status_.n_waiting = n_queued_ = counts.n_waiting;
  status_.kv_tokens_total = plan_.kv.n_tokens();
  status_.kv_tokens_used = counts.pages_used * plan_.kv.page_tokens;
  status_.prompt_tokens = counts.prompt_tokens;
  status_.generated_tokens = counts.generated_tokens;
  status_.steps = counts.steps;
  status_.preemptions = counts.preemptions;
  status_.stale_frames = n_stale_ + counts.unknown_results;
  status_.epoch = plan_.epoch.value;
  status_.plan = plan_status_;
  status_.plan.is_changing =
      change_ || loss_ || asked_plan_ || inbox_.replan || (scheduler_ && plan_task_ != nullptr);
  status_.plan.streams_wait = loss_ || (change_ && change_->is_loading);
  changed_at_ = plan_changed_at_;
}

void Engine::End(const Status& why, ServiceState last_state) {
  running_ = false;
  plan_task_.reset();
  dropped_tasks_.clear();
  Inbox inbox;
  {
    const MutexLock lock(mutex_);
    std::swap(inbox, inbox_);  // what comes after this is refused by the state
    status_.state = last_state;
    if (last_state == ServiceState::kFailed) status_.failure = why;
  }
  if (scheduler_) {
    SchedulerActions actions;
    scheduler_->EndAll(why, &actions);
    for (const auto& [seq, event] : actions.events) Deliver(seq, event);
  }
  for (const Submission& submission : inbox.submissions) {
    submission.sequence.sink->OnEvent(ErrorEvent(why));
  }
  for (const WorkerId id : membership_.ids()) {
    const Status sent = SendToWorker(id, proto::Shutdown{.reason = why.message()});
    if (!sent.ok()) LogDebug("coordinator", sent.message());
  }
}

void Engine::Fail(const Status& why) {
  if (!running_) return;
  LogDebug("coordinator", Str("failed: ", why.message(), Kv("epoch", plan_.epoch)));
  End(why, ServiceState::kFailed);
  observer_.OnFailed(why);
}

}  // namespace thermocline::coordinator
