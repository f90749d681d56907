#include "tools/plan/planning_line.h"

#include <pthread.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/str.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

// Seconds are all that a terminal is told; in a log a line of every second would be noise.
constexpr std::chrono::seconds kTerminalInterval{1}, kLogInterval{10};

}  // namespace

std::string PlanningText(double seconds, const std::optional<placement::PlanSpeed>& best) {
  const std::string text = Str("planning: ", std::llround(seconds), " s, ");
  if (!best) return text + "no plan yet";
  return Str(text, "best so far ", FixedPoint(best->all_tokens_per_s, 1), " tokens/s",
             best->n_streams > 1 ? Str(" of ", best->n_streams, " streams") : "");
}

PlanningLine::PlanningLine()
    : on_terminal_(isatty(STDERR_FILENO) == 1), thread_([this] {
        pthread_setname_np(pthread_self(), "tc-planning");
        PrintUntilOver();
      }) {}

PlanningLine::~PlanningLine() {
  {
    const MutexLock lock(mutex_);
    is_over_ = true;
  }
  over_.notify_one();
  thread_.join();
  if (on_terminal_) std::fprintf(stderr, "\r\033[K");
}

void PlanningLine::Found(const placement::PlanSpeed& speed) {
  const MutexLock lock(mutex_);
  if (!best_ || speed.value_s < best_->value_s) best_ = speed;
}

void PlanningLine::PrintUntilOver() {
  const auto interval = on_terminal_ ? kTerminalInterval : kLogInterval;
  for (auto next = std::chrono::steady_clock::now() + interval;; next += interval) {
    const auto text = TextAt(next);
    if (!text) return;
    // Without the mutex: the search does not wait for whoever reads this.
    std::fprintf(stderr, "%s%s%s", on_terminal_ ? "\r\033[K" : "", text->c_str(),
                 on_terminal_ ? "" : "\n");
    std::fflush(stderr);
  }
}

std::optional<std::string> PlanningLine::TextAt(std::chrono::steady_clock::time_point time) {
  const MutexLock lock(mutex_);
  while (!is_over_ && over_.wait_until(mutex_, time) == std::cv_status::no_timeout) continue;
  if (is_over_) return std::nullopt;
  return PlanningText(Seconds(clock_.Now() - begin_), best_);
}

}  // namespace thermocline::tools
