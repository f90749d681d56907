// A progress bar on stderr for programs that read or write a lot.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/mutex.h"

namespace thermocline::tools {

// Redrawn in place on a terminal; elsewhere one line per quarter. Owned by the program's run.
// Advance is thread-safe; the rest is thread-compatible.
class ProgressBar {
 public:
  ProgressBar(std::string_view what, uint64_t total_bytes);
  // Clears the bar from the terminal, so that what follows starts on an empty line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Advance(uint64_t n_bytes);

 private:
  void Draw(int percent) const;

  const std::string what_;
  const uint64_t total_bytes_;
  const bool is_terminal_;
  Mutex mutex_;
  uint64_t done_bytes_ GUARDED_BY(mutex_) = 0;
  int drawn_percent_ GUARDED_BY(mutex_) = -1;
};

}  // namespace thermocline::tools
