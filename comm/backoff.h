// Pauses between two looks at something that cannot be waited for.
#pragma once

#include "base/clock.h"

namespace thermocline::comm {

// Looks eagerly at first and ever more rarely later, so that a frame of a running pipeline is seen
// at once and an idle process leaves the core to others. Thread-compatible.
class Backoff {
 public:
  Backoff() : started_(SteadyClock().Now()) {}

  // Returns at once, or sleeps for a while that is never past `deadline`. False when the deadline
  // has passed. `moving`: a transfer is under way, which only further looks bring forward.
  bool Pause(TimePoint deadline, bool moving = false);

 private:
  const TimePoint started_;
};

}  // namespace thermocline::comm
