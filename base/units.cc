#include "base/units.h"

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/str.h"

namespace thermocline {
namespace {

struct Scaled {
  double number = 0;
  char unit = 0;  // 'K' 'M' 'G' 'T' or 0
  bool lower_case = false;
  std::string tail;  // what follows the unit
};

bool SplitNumber(std::string_view text, Scaled* out) {
  const std::string copy(text);
  char* end = nullptr;
  if (copy.empty() || !(std::isdigit(static_cast<unsigned char>(copy[0])) || copy[0] == '.')) {
    return false;
  }
  out->number = std::strtod(copy.c_str(), &end);
  if (end == copy.c_str() || !std::isfinite(out->number)) return false;
  while (*end == ' ') ++end;
  out->lower_case = std::islower(static_cast<unsigned char>(*end)) != 0;
  if (*end != 0) out->unit = static_cast<char>(std::toupper(static_cast<unsigned char>(*end++)));
  out->tail = end;
  return true;
}

int UnitPower(char unit) {
  switch (unit) {
    case 0:
      return 0;
    case 'K':
      return 1;
    case 'M':
      return 2;
    case 'G':
      return 3;
    case 'T':
      return 4;
    default:
      return -1;
  }
}

}  // namespace

Result<uint64_t> ParseBytes(std::string_view text) {
  Scaled scaled;
  if (SplitNumber(text, &scaled)) {
    if (scaled.unit == 'B' && scaled.tail.empty()) scaled.unit = 0;
    const int power = UnitPower(scaled.unit);
    const bool tail_ok = scaled.tail.empty() || scaled.tail == "B" || scaled.tail == "iB";
    const double bytes = scaled.number * std::pow(1024.0, power);
    if (power >= 0 && tail_ok && bytes < 0x1p63) return static_cast<uint64_t>(bytes);
  }
  return InvalidArgument(
      Str("not a size: \"", Printable(text), "\"; write bytes or 512M, 1.8G, 2T"));
}

Result<int64_t> ParseCount(std::string_view text) {
  Scaled scaled;
  if (SplitNumber(text, &scaled) && scaled.tail.empty() && UnitPower(scaled.unit) >= 0) {
    const double base = scaled.lower_case ? 1000.0 : 1024.0;
    const double count = scaled.number * std::pow(base, UnitPower(scaled.unit));
    if (count < 0x1p62) return static_cast<int64_t>(count);
  }
  return InvalidArgument(Str("not a count: \"", Printable(text), "\"; write 4096, 32K or 1.5M"));
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kNames[unit]);
  return text;
}

}  // namespace thermocline
