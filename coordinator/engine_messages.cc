// What the engine does with each message of a worker.
#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"
#include "proto/codec.h"

namespace thermocline::coordinator {

Status Engine::HandleFrame(const comm::Received& received) {
  const auto message = proto::Decode(received.frame.header);
  if (message.ok()) {
    return std::visit([&](const auto& kind) { return On(received.from, kind); }, *message);
  }
  // A stranger's nonsense is dropped; a worker that sends some cannot be trusted with the rest.
  const auto worker = membership_.FindId(received.from);
  if (!worker) return CountStale();
  return message.status().WithContext(membership_.NameOf(*worker));
}

Status Engine::On(comm::PeerId from, const proto::Hello& hello) {
  const auto id = membership_.OnHello(from, hello, clock_.Now());
  if (!id.ok()) {
    LogWarn("coordinator", Str("worker refused: ", id.status().message(),
                               Kv("host", Printable(hello.host)), Kv("pid", hello.pid)));
    observer_.OnWorkerRefused(hello.host, id.status());
    const Status sent = SendTo(from, proto::Failure{.status = id.status()});
    if (!sent.ok()) LogDebug("coordinator", sent.message());
    return OkStatus();
  }
  workers_changed_ = true;
  observer_.OnWorkerJoined(StatusOf(*id));
  TC_RETURN_IF_ERROR(SendToWorker(*id, proto::Welcome{.id = *id, .epoch = plan_.epoch}));
  return membership_.complete() ? StartLoading() : OkStatus();
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
  if (!scheduler_ && membership_.all_ready()) StartServing();
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::StepResult& result) {
  if (!scheduler_ || result.epoch != plan_.epoch) return CountStale();
  const WorkerId last = plan_.stages.back().lead;
  if (membership_.peer(last) != from) return CountStale();
  SchedulerActions actions;
  TC_RETURN_IF_ERROR(scheduler_->OnResult(result, &actions).WithContext(membership_.NameOf(last)));
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
  // A dead worker's neighbours see a lost link; the fault is its, not theirs.
  if (failure.status.code() == StatusCode::kUnavailable) TC_RETURN_IF_ERROR(FindLost());
  return failure.status.WithContext(Str(membership_.NameOf(*worker), " failed"));
}

Status Engine::FindLost() {
  for (const WorkerId id : membership_.ids()) {
    TC_RETURN_IF_ERROR(SendToWorker(id, proto::Heartbeat{.epoch = plan_.epoch}));
  }
  return OkStatus();
}

Status Engine::On(comm::PeerId from, const proto::Shutdown& shutdown) {
  const auto worker = membership_.FindId(from);
  if (!worker) return CountStale();
  return Unavailable(
      Str(membership_.NameOf(*worker), " is leaving: ", Printable(shutdown.reason, 300)));
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
  return SendTo(membership_.peer(worker), message)
      .WithContext(Str(membership_.NameOf(worker), " is lost"));
}

}  // namespace thermocline::coordinator
