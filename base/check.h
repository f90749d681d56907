// CHECK for bugs of ours: kept in release builds, never reachable from a file, a socket or a flag.
// DCHECK is for loops and vanishes in release builds.
#pragma once

#include <string_view>

namespace thermocline {

// Prints the place and the reason to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, std::string_view what);

}  // namespace thermocline

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) ::thermocline::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition) \
  do {                    \
  } while (false)
#else
#define DCHECK(condition) CHECK(condition)
#endif
