// Time as a passed-in thing, so that schedulers and deadlines can be tested without waiting.
#pragma once

#include <chrono>
#include <compare>

#include "base/mutex.h"

namespace thermocline {

// Nanoseconds of a clock that never goes back; its zero has no meaning.
using Duration = std::chrono::nanoseconds;
struct TimePoint {
  Duration since_start{0};
  friend auto operator<=>(const TimePoint&, const TimePoint&) = default;
  friend TimePoint operator+(TimePoint t, Duration d) { return {t.since_start + d}; }
  friend Duration operator-(TimePoint a, TimePoint b) { return a.since_start - b.since_start; }
};

inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
};

// The system's monotonic clock.
class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override {
    return {
        std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
  }
};

// A clock that stands still until told to move; for tests and the simulator.
class ManualClock final : public Clock {
 public:
  TimePoint Now() const override {
    const MutexLock lock(mutex_);
    return now_;
  }
  void Advance(Duration d) {
    const MutexLock lock(mutex_);
    now_ = now_ + d;
  }

 private:
  mutable Mutex mutex_;
  TimePoint now_ GUARDED_BY(mutex_);
};

}  // namespace thermocline
