// How long tests wait.
#pragma once

#include "base/clock.h"

namespace thermocline::testing {

// For what must come. A machine may stall a thread for seconds, and sanitizers make it twenty times
// slower; a test that works never waits this long. Within the ten minutes that CTest gives a test.
inline constexpr Duration kPatience = std::chrono::minutes(2);

// For what must come before a time given beforehand is over, where a long one makes a test long.
// Tries it with longer and longer times, of which a machine that stalls spoils the first; false
// when it does not come within kPatience either. `attempt` gets the time and says whether it came.
template <typename Attempt>
bool InGrowingTime(Duration first, Attempt attempt) {
  for (Duration time = first; time < kPatience; time *= 8) {
    if (attempt(time)) return true;
  }
  return attempt(kPatience);
}

}  // namespace thermocline::testing
