#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>

namespace thermocline {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number in a cgroup file; nullopt for "max" or when there is no such file.
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

uint64_t PageCacheBytes(const std::string& folder) {
  std::ifstream file(folder + "/memory.stat");
  std::string key;
  uint64_t bytes = 0, total = 0;
  while (file >> key >> bytes) {
    if (key == "inactive_file" || key == "active_file") total += bytes;
  }
  return total;
}

uint64_t RoomOf(const std::string& folder) {
  const auto limit = ReadNumber(folder + "/memory.max");
  const auto current = ReadNumber(folder + "/memory.current");
  if (!limit || !current) return kUnlimited;
  const uint64_t used = *current - std::min(*current, PageCacheBytes(folder));
  return *limit - std::min(*limit, used);
}

// "/system.slice/a.service" from the line "0::/system.slice/a.service". Above the root of a
// namespace ("/../..") nothing is visible: the root then stands for it.
std::string PathOfV2(std::string_view self) {
  constexpr std::string_view kPrefix = "0::";
  while (!self.empty()) {
    const size_t end = std::min(self.find('\n'), self.size());
    const std::string_view line = self.substr(0, end);
    if (line.starts_with(kPrefix)) {
      const std::string path(line.substr(kPrefix.size()));
      return path.starts_with("/..") ? "/" : path;
    }
    self.remove_prefix(std::min(end + 1, self.size()));
  }
  return "/";
}

}  // namespace

uint64_t CgroupMemoryRoom(const std::string& root, std::string_view self) {
  std::string path = PathOfV2(self);
  uint64_t room = RoomOf(root);
  while (path.size() > 1) {
    room = std::min(room, RoomOf(root + path));
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) break;
    path.resize(slash);
  }
  return room;
}

}  // namespace thermocline
