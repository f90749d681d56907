// Memory that a measurement wants to come from DRAM, however large the caches are: its lines are
// thrown out first. So a probe needs no region of several last-level caches, which a small budget
// or a short start would not allow.
#pragma once

#include <cstddef>
#include <span>

namespace thermocline::worker {

// Writes back and drops the lines of `bytes` from the caches of all cores; about 30 GB/s on one
// thread. On processors other than x86-64 and AArch64 it does nothing, and what is measured after
// it may be a cache.
void EvictFromCaches(std::span<const std::byte> bytes);

}  // namespace thermocline::worker
