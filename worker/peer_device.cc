#include "worker/peer_device.h"

#include "base/str.h"
#include "comm/backoff.h"

namespace thermocline::worker {

Status PeerDevice::Wait(kernels::WorkMark mark) {
  if (watched_.empty()) return device_.Wait(mark);
  const TimePoint deadline = clock_.Now() + kPatience;
  comm::Backoff backoff;
  while (!device_.IsDone(mark)) {
    TC_RETURN_IF_ERROR(CheckPeers());
    if (stopping_) return Lose(Aborted("stopped while other workers' GPUs work"));
    if (!backoff.Pause(deadline)) {
      return Lose(DeadlineExceeded(Str("work shared with ", Peers(), " is not done in time:",
                                       Kv("seconds", Seconds(kPatience)))));
    }
  }
  TC_RETURN_IF_ERROR(device_.Wait(mark));
  return CheckPeers();  // what was given up is done too, without a result
}

std::string PeerDevice::Peers() const {
  std::string all;
  for (const PeerWork* const work : watched_) all += Str(all.empty() ? "" : ", ", work->peers());
  return all;
}

Status PeerDevice::CheckPeers() {
  for (PeerWork* const work : watched_) {
    const Status status = work->Check();
    if (!status.ok()) return Lose(status);
  }
  return OkStatus();
}

// The plan is over for all of them. The queue comes free of what was given up, so this wait is for
// the device's own work.
Status PeerDevice::Lose(const Status& why) {
  for (PeerWork* const work : watched_) (void)work->Abort(why);
  TC_RETURN_IF_ERROR(device_.Synchronize());
  if (loss_.ok()) loss_ = Status(why).WithContext(name());
  return loss_;
}

}  // namespace thermocline::worker
