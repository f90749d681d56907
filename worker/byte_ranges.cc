#include "worker/byte_ranges.h"

#include <algorithm>
#include <cstdint>

namespace thermocline::worker {

using model::ByteRange;

std::vector<ByteRange> Merged(std::vector<ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  std::vector<ByteRange> merged;
  for (const ByteRange& range : ranges) {
    if (range.begin >= range.end) continue;
    if (merged.empty() || merged.back().end < range.begin) {
      merged.push_back(range);
    } else {
      merged.back().end = std::max(merged.back().end, range.end);
    }
  }
  return merged;
}

std::vector<ByteRange> Without(const std::vector<ByteRange>& ranges,
                               const std::vector<ByteRange>& others) {
  std::vector<ByteRange> left;
  auto other = others.begin();
  for (const ByteRange& range : ranges) {
    uint64_t begin = range.begin;
    while (other != others.end() && other->end <= begin) ++other;
    for (auto at = other; at != others.end() && at->begin < range.end; ++at) {
      if (begin < at->begin) left.push_back({begin, at->begin});
      begin = std::max(begin, at->end);
    }
    if (begin < range.end) left.push_back({begin, range.end});
  }
  return left;
}

}  // namespace thermocline::worker
