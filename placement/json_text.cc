// The only file that calls what nlohmann's library throws from.
#include "placement/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/str.h"

namespace thermocline::placement {

Result<nlohmann::ordered_json> ParsePlanText(std::string_view text, size_t max_bytes) {
  using Json = nlohmann::ordered_json;
  if (text.size() > max_bytes) {
    return InvalidArgument(Str("plan is too large: bytes=", text.size(), " limit=", max_bytes));
  }
  if (text.find_first_not_of(" \t\r\n") == text.npos) return InvalidArgument("the plan is empty");
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    const auto end = text.begin() + std::min(error.byte, text.size());
    return InvalidArgument(Str("plan is not JSON: line ", 1 + std::count(text.begin(), end, '\n'),
                               ": ", Printable(error.what(), 300)));
  } catch (const Json::exception& error) {  // a number beyond double's range
    return InvalidArgument(
        Str("plan is not JSON that can be read: ", Printable(error.what(), 300)));
  }
}

}  // namespace thermocline::placement
