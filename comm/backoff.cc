#include "comm/backoff.h"

#include <algorithm>
#include <thread>

namespace thermocline::comm {
namespace {

using std::chrono::microseconds;

// A sleeper comes back 20 to 50 us late, so what comes within this time is better waited for awake.
// Without yielding: on a busy core that gives away a whole time slice, milliseconds, where a
// sleeper is let in soon after its time.
constexpr Duration kAwake = microseconds(100);
// While bytes move, which happens only inside calls: as long as 2 MiB take at 10 Gbit/s. A peer
// that takes nothing costs no more than that.
constexpr Duration kAwakeMoving = microseconds(2000);
// Then a 64th of the time waited so far, between these: whoever waits 0.7 ms for a layer on another
// worker, or 20 ms for its turn in a pipeline, is 2 % late at most. A look of 2 us after each sleep
// of 10 us, which takes 25, is 7 % of a core.
constexpr int kWaitedPerSleep = 64;
constexpr Duration kSleepMin = microseconds(10);
// Reached after 32 ms, when the process is idle: 2000 looks a second cost 1 % of a core.
constexpr Duration kSleepMax = microseconds(500);

}  // namespace

bool Backoff::Pause(TimePoint deadline, bool moving) {
  const TimePoint now = SteadyClock().Now();
  if (now >= deadline) return false;
  const Duration waited = now - started_;
  if (waited < (moving ? kAwakeMoving : kAwake)) return true;
  const Duration wanted = std::clamp(waited / kWaitedPerSleep, kSleepMin, kSleepMax);
  std::this_thread::sleep_for(std::min(wanted, deadline - now));
  return true;
}

}  // namespace thermocline::comm
