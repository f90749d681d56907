// What kind of machine this is, for the head of a report.
#pragma once

#include <cstdint>
#include <string>

namespace thermocline::tools {

// "Intel(R) Xeon(R) Processor"; "unknown cpu" where the system does not say.
std::string CpuName();
// The value of the first `key : value` line of a /proc/cpuinfo text; "" without one.
std::string CpuInfoValue(const std::string& cpuinfo, const std::string& key);
// Of the largest cache that a core sees; 0 when unknown.
uint64_t LastLevelCacheBytes();
// "2026-01-31 23:59 UTC".
std::string UtcNow();
// Version and commit of this build: "0.1.0 (1a2b3c4)".
std::string BuildName();

}  // namespace thermocline::tools
