#include "worker/probe/huge_pages.h"

#include <charconv>
#include <fstream>
#include <string>

#include "base/units.h"

namespace thermocline::worker {
namespace {

struct Mapping {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// "7f00-7f80 rw-p ..." begins a mapping; other lines are "Key:  12 kB".
bool ReadMapping(const std::string& line, Mapping* mapping) {
  constexpr int kHex = 16;
  const char* const last = line.data() + line.size();
  Mapping read;
  const auto begin = std::from_chars(line.data(), last, read.begin, kHex);
  if (begin.ec != std::errc() || begin.ptr == last || *begin.ptr != '-') return false;
  const auto end = std::from_chars(begin.ptr + 1, last, read.end, kHex);
  if (end.ec != std::errc() || end.ptr == last || *end.ptr != ' ') return false;
  *mapping = read;
  return true;
}

}  // namespace

uint64_t HugeBytesOf(std::istream& smaps, uint64_t begin, uint64_t end) {
  constexpr std::string_view kKey = "AnonHugePages:";
  uint64_t sum = 0;
  Mapping mapping;
  std::string line;
  while (std::getline(smaps, line)) {
    if (ReadMapping(line, &mapping)) continue;
    if (!line.starts_with(kKey) || mapping.end <= begin || mapping.begin >= end) continue;
    const size_t digits = line.find_first_not_of(' ', kKey.size());
    uint64_t kib = 0;
    if (digits == std::string::npos) continue;
    std::from_chars(line.data() + digits, line.data() + line.size(), kib);
    sum += kib * kKiB;
  }
  return sum;
}

bool HasHugePages(std::span<const std::byte> bytes) {
  std::ifstream smaps("/proc/self/smaps");
  const auto begin = reinterpret_cast<uint64_t>(bytes.data());
  return HugeBytesOf(smaps, begin, begin + bytes.size()) > bytes.size() / 2;
}

}  // namespace thermocline::worker
