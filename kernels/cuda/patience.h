// Waiting for a device that may never answer.
#pragma once

#include <chrono>
#include <thread>

#include "base/clock.h"

namespace thermocline::kernels::cuda {

// The longest that a wait takes: a step of the largest prompt chunk is done in a few seconds on the
// slowest cards, and what has taken this long is a card that hangs or has fallen off its bus.
inline constexpr Duration kDevicePatience = std::chrono::seconds(30);
// Between looks the core is yielded for as long as most steps of decoding take, so that their end
// is seen at once; then it sleeps, a hundredth of what has passed by then.
inline constexpr Duration kYieldingTime = std::chrono::milliseconds(5);
inline constexpr Duration kLookInterval = std::chrono::microseconds(50);

// Looks until `is_done` says yes; false when `patience` is over.
template <typename IsDone>
bool WaitPatiently(Duration patience, IsDone is_done) {
  if (is_done()) return true;
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  while (!is_done()) {
    const Duration waited = clock.Now() - begin;
    if (waited > patience) return false;
    if (waited < kYieldingTime) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kLookInterval);
    }
  }
  return true;
}

}  // namespace thermocline::kernels::cuda
