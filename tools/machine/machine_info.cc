#include "tools/machine/machine_info.h"

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/str.h"
#include "base/units.h"
#include "base/version.h"
#include "tools/commit.h"

namespace thermocline::tools {

std::string CpuInfoValue(const std::string& cpuinfo, const std::string& key) {
  std::istringstream lines(cpuinfo);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::string CpuName() {
  std::ifstream file("/proc/cpuinfo");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // Arm's kernels name no model there.
  const std::string name = CpuInfoValue(text, "model name");
  return name.empty() ? "unknown cpu" : name;
}

uint64_t LastLevelCacheBytes() {
  constexpr int kMaxCaches = 8;  // index0 .. : two of level 1, then one per level
  uint64_t largest = 0;
  for (int i = 0; i < kMaxCaches; ++i) {
    std::ifstream file(Str("/sys/devices/system/cpu/cpu0/cache/index", i, "/size"));
    std::string text;
    if (!(file >> text)) break;
    const auto bytes = ParseBytes(text);
    if (bytes.ok()) largest = std::max(largest, *bytes);
  }
  return largest;
}

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

std::string BuildName() { return Str(kVersion, " (", kCommit, ")"); }

}  // namespace thermocline::tools
