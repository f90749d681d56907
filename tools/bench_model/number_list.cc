#include "tools/bench_model/number_list.h"

#include <algorithm>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::tools {

Result<std::vector<std::string>> SplitList(std::string_view flag, std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (parts.back().empty()) {
      return InvalidArgument(Str(flag, " has an empty part; write a list like 1,2,4"));
    }
    if (parts.size() > kMaxListItems) {
      return InvalidArgument(Str(flag, " has too many values:", Kv("max", kMaxListItems)));
    }
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

Result<std::vector<int64_t>> ParseNumberList(std::string_view flag, std::string_view text,
                                             const NumberRange& range) {
  TC_ASSIGN_OR_RETURN(const std::vector<std::string> parts, SplitList(flag, text));
  std::vector<int64_t> numbers;
  for (const std::string& part : parts) {
    const auto number = ParseCount(part);
    if (!number.ok()) return number.status().WithContext(flag);
    if (*number < range.min || *number > range.max) {
      return InvalidArgument(Str(flag, " out of range:", Kv("value", *number), Kv("min", range.min),
                                 Kv("max", range.max)));
    }
    if (std::find(numbers.begin(), numbers.end(), *number) == numbers.end()) {
      numbers.push_back(*number);
    }
  }
  return numbers;
}

}  // namespace thermocline::tools
