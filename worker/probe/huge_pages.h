// Whether the system has given huge pages for memory that asked for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <span>

namespace thermocline::worker {

// Most of `bytes`, which have been written, lies on huge pages.
bool HasHugePages(std::span<const std::byte> bytes);

// The same from the text of /proc/self/smaps: anonymous huge pages of the mappings that overlap
// [begin, end).
uint64_t HugeBytesOf(std::istream& smaps, uint64_t begin, uint64_t end);

}  // namespace thermocline::worker
