// The floors of the house as a checkable rule: which folder may include which, and where each
// third-party library lives.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace thermocline::house {

// Every #include of `source` (the text of the file at `path`, relative to the project's root) that
// the floors do not allow, one line each: "kernels/cpu/add.cc:7 kernels must not include model/x.h".
std::vector<std::string> FindViolations(std::string_view path, std::string_view source);

}  // namespace thermocline::house
