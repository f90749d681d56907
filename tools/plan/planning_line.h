// How long a search for a plan has been going on, and what it has found, on stderr.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/mutex.h"
#include "placement/planner.h"

namespace thermocline::tools {

// "planning: 12 s, best so far 34.1 tokens/s of 4 streams"
std::string PlanningText(double seconds, const std::optional<placement::PlanSpeed>& best);

// Rewritten in place on a terminal, else a line every ten seconds; nothing of a search that is over
// sooner. Owns the thread that prints. Found and TextAt are thread-safe; the rest is
// thread-compatible.
class PlanningLine {
 public:
  PlanningLine();
  // Clears the line from the terminal, so that what follows starts on an empty one.
  ~PlanningLine();
  PlanningLine(const PlanningLine&) = delete;
  PlanningLine& operator=(const PlanningLine&) = delete;

  // One more plan; the best is the one of the least value.
  void Found(const placement::PlanSpeed& speed);
  // The line of that moment, for which it waits; none: the search was over before.
  std::optional<std::string> TextAt(std::chrono::steady_clock::time_point time);

 private:
  void PrintUntilOver();

  const bool on_terminal_;
  const SteadyClock clock_;
  const TimePoint begin_ = clock_.Now();
  Mutex mutex_;
  CondVar over_;
  bool is_over_ GUARDED_BY(mutex_) = false;
  std::optional<placement::PlanSpeed> best_ GUARDED_BY(mutex_);
  std::thread thread_;  // the last member: it reads the others
};

}  // namespace thermocline::tools
