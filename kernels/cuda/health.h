// What has gone wrong with a device: its first error, and whether it answers at all.
#pragma once

#include "base/status.h"
#include "base/str.h"
#include "kernels/cuda/patience.h"

namespace thermocline::kernels::cuda {

// Owned by a runtime. Thread-compatible.
class Health {
 public:
  explicit Health(Duration patience = kDevicePatience) : patience_(patience) {}

  // The first one stays; OK changes nothing.
  void Note(const Status& error) {
    if (error_.ok()) error_ = error;
  }
  // Looks until `is_done` says yes. A device that does not answer until patience is over hangs from
  // then on, which is its error unless it had one; nobody waits for it again.
  template <typename IsDone>
  void Await(IsDone is_done) {
    if (hangs_ || WaitPatiently(patience_, is_done)) return;
    hangs_ = true;
    Note(Unavailable(Str("the GPU does not answer:", Kv("waited_s", Seconds(patience_)))));
  }

  const Status& error() const { return error_; }
  // Then nothing may be given back, and no mark made any more: such calls may wait for ever for
  // what is under way. The worker ends, and the driver takes all.
  bool hangs() const { return hangs_; }

 private:
  const Duration patience_;
  Status error_;
  bool hangs_ = false;
};

}  // namespace thermocline::kernels::cuda
