#include "tools/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/units.h"

namespace thermocline::tools {
namespace {

constexpr int kWidth = 40;      // columns of the bar
constexpr int kQuietStep = 25;  // percent between lines where nothing can be redrawn

}  // namespace

ProgressBar::ProgressBar(std::string_view what, uint64_t total_bytes)
    : what_(what), total_bytes_(std::max<uint64_t>(total_bytes, 1)), is_terminal_(isatty(2) == 1) {}

ProgressBar::~ProgressBar() {
  const MutexLock lock(mutex_);
  if (is_terminal_ && drawn_percent_ >= 0) std::fprintf(stderr, "\r\033[K");
}

void ProgressBar::Advance(uint64_t n_bytes) {
  const MutexLock lock(mutex_);
  done_bytes_ = std::min(done_bytes_ + n_bytes, total_bytes_);
  const int step = is_terminal_ ? 1 : kQuietStep;
  const int percent =
      static_cast<int>(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_) * 100);
  const int shown = percent / step * step;
  if (shown <= drawn_percent_ || (!is_terminal_ && shown == 0)) return;
  drawn_percent_ = shown;
  Draw(shown);
}

void ProgressBar::Draw(int percent) const {
  const std::string size = FormatBytes(total_bytes_);
  if (!is_terminal_) {
    std::fprintf(stderr, "%s: %d%% of %s\n", what_.c_str(), percent, size.c_str());
    return;
  }
  const int n_full = percent * kWidth / 100;
  const std::string bar = std::string(n_full, '#') + std::string(kWidth - n_full, '.');
  std::fprintf(stderr, "\r%s [%s] %3d%% of %s", what_.c_str(), bar.c_str(), percent, size.c_str());
}

}  // namespace thermocline::tools
