#include "worker/group_device.h"

#include <utility>

#include "base/str.h"
#include "comm/backoff.h"

namespace thermocline::worker {

Status GroupDevice::Wait(kernels::WorkMark mark) {
  if (group_ == nullptr) return device_.Wait(mark);
  const TimePoint deadline = clock_.Now() + kPatience;
  comm::Backoff backoff;
  while (!device_.IsDone(mark)) {
    TC_RETURN_IF_ERROR(CheckGroup());
    if (stopping_) return Lose(Aborted("stopped while the members of a group work"));
    if (!backoff.Pause(deadline)) {
      return Lose(DeadlineExceeded("members of a group are not done in time"));
    }
  }
  TC_RETURN_IF_ERROR(device_.Wait(mark));
  return CheckGroup();  // what was given up is done too, without a result
}

Status GroupDevice::CheckGroup() {
  if (group_ == nullptr) return OkStatus();
  Status status = group_->Check();
  return status.ok() ? status : Lose(std::move(status));
}

// The queue comes free of what was given up, so this wait is for the device's own work.
Status GroupDevice::Lose(Status why) {
  const Status given_up = group_->Abort(std::move(why));
  TC_RETURN_IF_ERROR(device_.Synchronize());
  if (loss_.ok()) loss_ = Status(given_up).WithContext(name());
  return loss_;
}

}  // namespace thermocline::worker
