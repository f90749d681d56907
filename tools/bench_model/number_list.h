// Lists as people give them to a benchmark: "1,2,4".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::tools {

struct NumberRange {
  int64_t min = 0;
  int64_t max = 0;
};

// More combinations than anybody waits for.
inline constexpr size_t kMaxListItems = 64;

// The parts between commas. kInvalidArgument names `flag` when one is empty or there are too many.
Result<std::vector<std::string>> SplitList(std::string_view flag, std::string_view text);
// The same as numbers, "4K" included; kInvalidArgument names the part that is none, or is out of
// range. Doubles are kept once.
Result<std::vector<int64_t>> ParseNumberList(std::string_view flag, std::string_view text,
                                             const NumberRange& range);

}  // namespace thermocline::tools
