// What the engine does with each message of a worker.
#include <algorithm>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"
#include "proto/codec.h"

namespace thermocline::coordinator {
namespace {

// A connection whose end died is known to be closed within two heartbeats; one whose end only says
// nothing is given up by the mailbox after six.
constexpr int kBeatsMissedInLife = 4;

}  // namespace

Status Engine::HandleFrame(const comm::Received& received) {
  const auto message = proto::Decode(received.frame.header);
  if (message.ok()) {
    return std::visit([&](const auto& kind) { return On(received.from, kind); }, *message);
  }
  // A stranger's nonsense is dropped; a worker that sends some cannot be trusted with the rest.
  const auto worker = membership_.FindId(received.from);
  if (!worker) return CountStale();
  return Lose(*worker, message.status().WithContext(membership_.NameOf(*worker)));
}

Status Engine::On(comm::PeerId from, const proto::Hello& hello) {
  const auto id = membership_.OnHello(from, hello, clock_.Now());
  if (!id.ok()) return Refuse(from, hello, id.status());
  workers_changed_ = true;
  observer_.OnWorkerJoined(StatusOf(*id));
  const std::string crowding = membership_.CrowdingNote(*id);
  if (!crowding.empty()) SayNews(crowding);
  const Status sent = SendToWorker(*id, proto::Welcome{.id = *id, .epoch = plan_.epoch});
  if (!sent.ok()) return Lose(*id, sent);
  if (trace_ != nullptr) {
    trace_->OnWorker(*id, membership_.NameOf(*id));
    const Status asked = AskClock(*id);
    if (!asked.ok()) return Lose(*id, asked);
  }
  if (!plan_.stages.empty()) SayWhatJoiningMeans(*id);
  const bool has_plan = !plan_.stages.empty() || plan_task_ != nullptr || survey_ != nullptr;
  return membership_.complete() && !has_plan ? StartSurvey() : OkStatus();
}

// Of a worker that has come to a plan that was made without it, loaded or not.
void Engine::SayWhatJoiningMeans(WorkerId worker) {
  const std::string name = membership_.NameOf(worker);
  if (options_.replan == ReplanMode::kOff) {
    return SayNews(Str(name, " stays spare: this service keeps its plan (--replan off)"));
  }
  if (IsReachable(worker)) {
    joined_.insert(worker);
    next_tick_ = clock_.Now();
    has_joined_ = options_.replan == ReplanMode::kAuto;
    return;
  }
  SayNews(Str(name, " stays spare: this service's links are ", placement::LinkKindName(LinkOfAll()),
              ", which do not reach it; started with "
              "--transport auto it could be in the plan"));
}

Status Engine::Refuse(comm::PeerId from, const proto::Hello& hello, const Status& why) {
  LogWarn("coordinator", Str("worker refused: ", why.message(), Kv("host", Printable(hello.host)),
                             Kv("pid", hello.pid)));
  observer_.OnWorkerRefused(hello.host, why);
  const Status sent = SendTo(from, proto::Failure{why});
  if (!sent.ok()) LogDebug("coordinator", sent.message());
  if (!membership_.Needs(hello)) return OkStatus();
  return why.WithContext(
      Str("worker ", *hello.wanted_id, " on ", Printable(hello.host), " cannot join"));
}

Status Engine::On(comm::PeerId from, const proto::LoadProgress& progress) {
  if (progress.epoch != plan_.epoch) return CountStale();
  if (!membership_.OnLoadProgress(from, progress, clock_.Now()).ok()) return CountStale();
  workers_changed_ = true;
  observer_.OnLoadProgress(membership_.Statuses(clock_.Now()));
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::Ready& ready) {
  if (ready.epoch != plan_.epoch || plan_.stages.empty()) return CountStale();
  if (!membership_.OnReady(from, ready, clock_.Now()).ok()) return CountStale();
  workers_changed_ = true;
  observer_.OnReady(StatusOf(*membership_.FindId(from)), ready);
  const bool is_loading = change_ ? change_->is_loading : scheduler_ == nullptr;
  if (!is_loading) return OkStatus();
  const double took_s = Seconds(clock_.Now() - loading_since_);
  if (took_s > 0) {
    read_bytes_per_s_ = std::max(read_bytes_per_s_, static_cast<double>(ready.read_bytes) / took_s);
  }
  if (change_) {
    change_->kept_bytes += ready.kept_bytes;
    change_->read_bytes += ready.read_bytes;
  }
  if (!membership_.all_ready()) return OkStatus();
  TC_RETURN_IF_ERROR(membership_.CheckNeuronOrders(plan_, order_));
  change_ ? FinishChange() : StartServing();
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::StepResult& result) {
  if (!scheduler_ || loss_ || result.epoch != plan_.epoch) return CountStale();
  const WorkerId last = plan_.stages.back().lead;
  if (membership_.peer(last) != from) return CountStale();
  NoteAnswered(result);
  SchedulerActions actions;
  const Status status = scheduler_->OnResult(result, &actions);
  if (!status.ok()) return Lose(last, status.WithContext(membership_.NameOf(last)));
  Act(actions);
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::Heartbeat& heartbeat) {
  if (!membership_.OnHeartbeat(from, heartbeat, clock_.Now()).ok()) return CountStale();
  workers_changed_ = true;
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::Failure& failure) {
  const auto worker = membership_.FindId(from);
  if (!worker) return CountStale();
  return Lose(*worker, failure.status.WithContext(Str(membership_.NameOf(*worker), " failed")));
}

// Of a plan that has lost a worker already it says nothing new.
Status Engine::On(comm::PeerId from, const proto::LinkLost& lost) {
  const auto worker = membership_.FindId(from);
  if (!worker || lost.epoch != plan_.epoch) return CountStale();
  if (link_report_ || (loss_ && !change_)) return OkStatus();
  if (!membership_.contains(lost.peer)) {
    return Lose(*worker, DataLoss(Str(membership_.NameOf(*worker),
                                      " lost a link to a worker that is not there: ", lost.peer)));
  }
  const Status why =
      Unavailable(Str(membership_.NameOf(lost.peer), " is lost to ", membership_.NameOf(*worker),
                      ": ", Printable(lost.reason, 300)));
  link_report_ = {why, lost.peer, clock_.Now()};
  next_tick_ = clock_.Now();  // look who else is gone
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::LinkReport& report) {
  const auto worker = membership_.FindId(from);
  LinkSurvey* const survey = survey_ ? survey_.get() : join_survey_.get();
  if (!worker || survey == nullptr) return CountStale();
  const Status status = survey->OnReport(*worker, report, clock_.Now());
  if (status.code() == StatusCode::kNotFound) return CountStale();
  if (survey_) {
    TC_RETURN_IF_ERROR(status);
    return ContinueSurvey();
  }
  if (!status.ok()) SkipJoinRound(status);
  return ContinueJoinSurvey();
}

Status Engine::On(comm::PeerId from, const proto::Shutdown& shutdown) {
  const auto worker = membership_.FindId(from);
  if (!worker) return CountStale();
  return Lose(*worker, Unavailable(Str(membership_.NameOf(*worker),
                                       " is leaving: ", Printable(shutdown.reason, 300))));
}

// Until there is a plan that could do without it, a worker that leaves is lost.
Status Engine::On(comm::PeerId from, const proto::Leaving& leaving) {
  const auto worker = membership_.FindId(from);
  if (!worker) return CountStale();
  if (!scheduler_) return On(from, proto::Shutdown{leaving.reason});
  membership_.SetLeaving(*worker, true, clock_.Now());
  LogInfo("coordinator",
          Str(membership_.NameOf(*worker), " wants to leave: ", Printable(leaving.reason, 300)));
  workers_changed_ = true;
  return OkStatus();
}

// In the file's order, so of any epoch.
Status Engine::On(comm::PeerId from, const proto::FiringCounts& counts) {
  const auto worker = membership_.FindId(from);
  if (!worker) return CountStale();
  const Status added = live_heat_.Add(counts);
  return added.ok() ? OkStatus() : Lose(*worker, added.WithContext(membership_.NameOf(*worker)));
}

Status Engine::AskClock(WorkerId worker) {
  return SendToWorker(worker, proto::ClockProbe{.sent_ns = clock_.Now().since_start.count()});
}

Status Engine::On(comm::PeerId from, const proto::ClockEcho& echo) {
  const auto worker = membership_.FindId(from);
  if (!worker || trace_ == nullptr) return CountStale();
  trace_->OnClock(*worker, echo, clock_.Now());
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::TraceSpans& spans) {
  const auto worker = membership_.FindId(from);
  if (!worker || trace_ == nullptr) return CountStale();
  trace_->OnSpans(*worker, spans);
  return OkStatus();
}

template <typename Other>
Status Engine::On(comm::PeerId, const Other&) {
  return CountStale();
}

Status Engine::CountStale() {
  ++n_stale_;
  return OkStatus();
}

WorkerStatus Engine::StatusOf(WorkerId worker) const {
  for (WorkerStatus& status : membership_.Statuses(clock_.Now())) {
    if (status.id == worker) return std::move(status);
  }
  return {};
}

Status Engine::SendTo(comm::PeerId peer, const proto::Message& message) {
  proto::Encode(message, &encoded_);
  return mailbox_.Send(peer, {.header = encoded_, .payload = {}});
}

Status Engine::SendToWorker(WorkerId worker, const proto::Message& message) {
  const Status sent = SendTo(membership_.peer(worker), message);
  if (sent.code() != StatusCode::kUnavailable) {
    return sent.WithContext(Str(membership_.NameOf(worker), " is lost"));
  }
  LogDebug("coordinator", sent.message());
  const std::string name = membership_.NameOf(worker);
  const double silence_s = StatusOf(worker).heartbeat_age_s;
  if (silence_s < kBeatsMissedInLife * Seconds(options_.heartbeat_interval)) {
    return Unavailable(Str(name, " is lost: its connection closed (the process ended?)"));
  }
  return Unavailable(Str(name, " is lost: it does not answer, no heartbeat for ", silence_s,
                         " s (the process stopped, or its host is out of reach?)"));
}

}  // namespace thermocline::coordinator
