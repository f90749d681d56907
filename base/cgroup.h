// What the control group of a process still lets it have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

// Memory that a cgroup (v2) and the ones around it still give before their limits: the least of
// limit - use, where page cache counts as free, since the kernel drops it first. `root` is where
// the hierarchy is mounted, /sys/fs/cgroup; `self` the text of /proc/self/cgroup. The largest
// number when there is no limit or no cgroup v2.
uint64_t CgroupMemoryRoom(const std::string& root, std::string_view self);

}  // namespace thermocline
