#include "comm/backoff.h"

#include <algorithm>
#include <thread>

namespace thermocline::comm {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Sleeping costs at least the kernel's timer slack of 50 us, so what comes within this time is
// better waited for awake. Without yielding: on a busy core that gives away a whole time slice,
// milliseconds, where a sleeper is let in soon after its time.
constexpr Duration kAwake = microseconds(100);
// Until here a tenth of the time waited so far, at most 100 us late.
constexpr Duration kBusy = milliseconds(5);
constexpr Duration kBusySleepMax = microseconds(100);
// Afterwards the process is idle: 2000 looks a second cost 1 % of a core.
constexpr Duration kIdleSleep = microseconds(500);

}  // namespace

bool Backoff::Pause(TimePoint deadline) {
  const TimePoint now = SteadyClock().Now();
  if (now >= deadline) return false;
  const Duration waited = now - started_;
  if (waited < kAwake) return true;
  const Duration wanted = waited < kBusy ? std::min(waited / 10, kBusySleepMax) : kIdleSleep;
  std::this_thread::sleep_for(std::min(wanted, deadline - now));
  return true;
}

}  // namespace thermocline::comm
