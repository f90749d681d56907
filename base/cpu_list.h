// CPUs by number: lists of them as people write them, and where threads run.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline {

// "0-3,8" -> {0, 1, 2, 3, 8}, in the order given; "" -> none. kInvalidArgument when it is no such
// list, names a CPU twice, or names one that this process may not use, and says which it may.
Result<std::vector<int>> ParseCpuList(std::string_view text);

// {0, 1, 2, 3, 8} -> "0-3,8".
std::string CpuListText(std::span<const int> cpus);

// The CPUs that the calling thread may run on, ascending.
std::vector<int> AllowedCpus();

// Lets the calling thread, and the threads and processes that it starts from now on, run on these
// CPUs only; none: changes nothing. kInvalidArgument when the system refuses.
Status RunOn(std::span<const int> cpus);

// The CPU of the thread that steps: the first of the list, none of an empty one.
inline std::span<const int> FirstOf(std::span<const int> cpus) {
  return cpus.first(cpus.empty() ? 0 : 1);
}

// `asked` threads, 0 for one per CPU of the list, or per allowed CPU when the list is empty.
// kInvalidArgument when a list is shorter than what is asked for.
Result<int> ThreadsOn(std::span<const int> cpus, int asked);

}  // namespace thermocline
