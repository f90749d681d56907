// How the engine finds out that a worker, a link or a step is lost, and whom it blames.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"

namespace thermocline::coordinator {
namespace {

// A worker's death breaks its neighbours' links, and their word of it may come first. Within two
// heartbeats the dead worker's own connection tells who it was.
constexpr Duration kLinkReportHold = std::chrono::seconds(1);
// Steps differ by the rows they carry and the context they read; none takes this much longer than
// the slowest before it.
constexpr int kSlowestStepFactor = 20;

}  // namespace

void Engine::HandleTick() {
  const TimePoint now = clock_.Now();
  if (now < next_tick_) return;
  next_tick_ = now + options_.heartbeat_interval;
  workers_changed_ = true;
  if (trace_ != nullptr) trace_->Flush();
  if (const Status status = CheckLiveness(now); !status.ok()) Fail(status);
}

// Direct evidence first: who does not answer comes before what others say of it.
Status Engine::CheckLiveness(TimePoint now) {
  TC_RETURN_IF_ERROR(membership_.CheckJoinDeadline(now));
  for (const auto& [id, why] : membership_.Silent(now)) TC_RETURN_IF_ERROR(Lose(id, why));
  for (const WorkerId id : membership_.ids()) {
    Status sent = SendToWorker(id, proto::Heartbeat{.epoch = plan_.epoch});
    if (sent.ok() && trace_ != nullptr) sent = AskClock(id);
    if (!sent.ok()) TC_RETURN_IF_ERROR(Lose(id, sent));
  }
  TC_RETURN_IF_ERROR(CheckLinkReport(now));
  if (survey_ != nullptr) TC_RETURN_IF_ERROR(survey_->CheckDeadline(now));
  TC_RETURN_IF_ERROR(CheckLoadDeadline(now));
  TC_RETURN_IF_ERROR(HandleLeavers(now));
  TC_RETURN_IF_ERROR(MeasureJoined(now));
  TC_RETURN_IF_ERROR(LookAtHeat(now));
  return CheckStepDeadline(now);
}

// OK when the service goes on: without a spare worker, or over a plan around the lost one.
Status Engine::Lose(WorkerId worker, const Status& why) {
  if (!membership_.contains(worker)) return OkStatus();
  if (!membership_.IsSpare(worker)) {
    if (!scheduler_ || options_.replan == ReplanMode::kOff) return why;
    LosePlan(worker, why);
    return OkStatus();
  }
  LogDebug("coordinator", Str("spare worker left: ", why.message(), Kv("epoch", plan_.epoch)));
  observer_.OnWorkerLeft(StatusOf(worker), why);
  membership_.Remove(worker);
  workers_changed_ = true;
  return OkStatus();
}

// Its reporter waits for another plan; there is none before the first has served.
Status Engine::CheckLinkReport(TimePoint now) {
  if (!link_report_ || now - link_report_->at < kLinkReportHold) return OkStatus();
  const LinkReport report = *std::exchange(link_report_, std::nullopt);
  return scheduler_ ? Lose(report.peer, report.why) : report.why;
}

// Before it is sent: the worker may begin before sending returns.
void Engine::NoteStep(const proto::StepBatch& step) {
  if (!step.entries.empty()) sent_at_.emplace(step.step, clock_.Now());
  if (trace_ != nullptr) trace_->OnStepSent(step, clock_.Now());
}

void Engine::NoteAnswered(const proto::StepResult& result) {
  membership_.OnStepTimes(result.stage_compute_us);
  if (trace_ != nullptr) trace_->OnStepAnswered(result.step, clock_.Now());
  const auto sent = sent_at_.find(result.step);
  if (sent == sent_at_.end()) return;
  const TimePoint now = clock_.Now();
  slowest_step_ = std::max(slowest_step_, now - std::max(sent->second, last_progress_at_));
  sent_at_.erase(sent);
  last_progress_at_ = now;
}

// Steps are answered in order, so the oldest one is next.
Status Engine::CheckStepDeadline(TimePoint now) const {
  if (sent_at_.empty()) return OkStatus();
  const auto& [step, sent_at] = *sent_at_.begin();
  const Duration limit = std::max(options_.step_timeout, kSlowestStepFactor * slowest_step_);
  if (now - std::max(sent_at, last_progress_at_) < limit) return OkStatus();
  return DeadlineExceeded(Str("step ", step, " has been outstanding for ", Seconds(now - sent_at),
                              " s; steps done: ", StepsDone()));
}

// Where the pipeline is stuck: the first stage that has done fewer steps than the one before it.
std::string Engine::StepsDone() const {
  std::string text;
  for (const WorkerStatus& worker : membership_.Statuses(clock_.Now())) {
    if (worker.stage < 0 || worker.is_helper) continue;
    text += Str(text.empty() ? "" : ", ", "stage ", worker.stage, " (",
                membership_.NameOf(worker.id), ") ", worker.steps_done);
  }
  return text;
}

}  // namespace thermocline::coordinator
