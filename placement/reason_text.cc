#include "placement/reason_text.h"

#include <cmath>

#include "base/str.h"

namespace thermocline::placement {

std::string MillisecondsText(double seconds) {
  const double per_ms = std::abs(seconds) < 1e-4 ? 1e4 : 1e2;
  return Str(std::round(1e3 * seconds * per_ms) / per_ms, " ms");
}

std::string LayersText(int begin, int end) {
  return begin == end - 1 ? Str(begin) : Str(begin, "-", end - 1);
}

}  // namespace thermocline::placement
