// How far a long piece of work has come, on stderr.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace thermocline::tools {

// "counting 12288/32768 tokens  840 tokens/s  24 s left": rewritten in place on a terminal, else a
// line every ten seconds. One thread.
class Progress {
 public:
  // `quiet` prints nothing.
  Progress(std::string what, std::string unit, uint64_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(uint64_t n);
  double seconds() const { return Seconds(clock_.Now() - begin_); }

 private:
  void Print() const;

  const std::string what_;
  const std::string unit_;
  const uint64_t total_;
  const bool quiet_;
  const bool on_terminal_;
  SteadyClock clock_;
  TimePoint begin_;
  TimePoint printed_;
  uint64_t done_ = 0;
};

// "24 s", "3 min 20 s", "2 h 5 min".
std::string FormatSeconds(double seconds);

}  // namespace thermocline::tools
