// What this process and this machine are: for hello messages, node tables and memory budgets.
#pragma once

#include <cstdint>
#include <string>

namespace thermocline {

std::string HostName();
// Cores this process may run on (its affinity mask), at least 1.
int AvailableCores();
// Memory the machine could still give (MemAvailable), within the limits of this process's cgroup
// and those around it; 0 when unknown.
uint64_t AvailableMemoryBytes();
// The most memory this process ever had resident, mapped file pages included; 0 when unknown.
uint64_t PeakRssBytes();

}  // namespace thermocline
