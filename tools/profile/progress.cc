#include "tools/profile/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "base/str.h"

namespace thermocline::tools {
namespace {

constexpr double kTerminalInterval_s = 0.2;  // faster is a flicker
constexpr double kLogInterval_s = 10;

}  // namespace

std::string FormatSeconds(double seconds) {
  const auto whole = std::llround(seconds);
  if (whole < 60) return Str(whole, " s");
  if (whole < 3600) return Str(whole / 60, " min ", whole % 60, " s");
  return Str(whole / 3600, " h ", whole % 3600 / 60, " min");
}

Progress::Progress(std::string what, std::string unit, uint64_t total, bool quiet)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      begin_(clock_.Now()),
      printed_(begin_) {}

Progress::~Progress() {
  if (quiet_) return;
  Print();
  if (on_terminal_) std::fprintf(stderr, "\n");
}

void Progress::Advance(uint64_t n) {
  done_ += n;
  if (quiet_) return;
  const TimePoint now = clock_.Now();
  const double interval = on_terminal_ ? kTerminalInterval_s : kLogInterval_s;
  if (done_ < total_ && Seconds(now - printed_) < interval) return;
  if (done_ >= total_) return;  // the last line is the destructor's
  printed_ = now;
  Print();
}

void Progress::Print() const {
  const double elapsed = seconds();
  const double rate = elapsed > 0 ? static_cast<double>(done_) / elapsed : 0;
  const std::string rest =
      done_ < total_ && rate > 0
          ? Str(FormatSeconds(static_cast<double>(total_ - done_) / rate), " left")
          : Str("in ", FormatSeconds(elapsed));
  std::fprintf(stderr, "%s%s %llu/%llu %s  %.*f %s/s  %s%s", on_terminal_ ? "\r\033[K" : "",
               what_.c_str(), static_cast<unsigned long long>(done_),
               static_cast<unsigned long long>(total_), unit_.c_str(), rate < 10 ? 1 : 0, rate,
               unit_.c_str(), rest.c_str(), on_terminal_ ? "" : "\n");
  std::fflush(stderr);
}

}  // namespace thermocline::tools
