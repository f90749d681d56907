// The only file that calls what nlohmann's library throws from.
#include "placement/json_text.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/str.h"

namespace thermocline::placement {

namespace {

using Json = nlohmann::ordered_json;

// How deep values lie in each other, and which keys each object under way has had: of two alike one
// would be lost without a word.
class ShapeCheck {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    const bool opens =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    is_too_deep_ = is_too_deep_ || (opens && depth >= kMaxPlanDepth);  // that many are open
    if (is_too_deep_) return false;  // what follows is read and forgotten
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second && !twice_) twice_ = key;
    }
    return true;
  }
  Status Check() const {
    if (is_too_deep_) {
      return InvalidArgument(Str("plan nests too deep:", Kv("limit", kMaxPlanDepth)));
    }
    if (!twice_) return OkStatus();
    return InvalidArgument(Str("plan: field stands twice in one object: ", Printable(*twice_)));
  }

 private:
  bool is_too_deep_ = false;
  std::vector<std::set<std::string>> keys_;  // of the objects around the place that is read
  std::optional<std::string> twice_;
};

}  // namespace

Result<nlohmann::ordered_json> ParsePlanText(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return InvalidArgument(Str("plan is too large: bytes=", text.size(), " limit=", max_bytes));
  }
  if (text.find_first_not_of(" \t\r\n") == text.npos) return InvalidArgument("the plan is empty");
  try {
    ShapeCheck check;
    Json json = Json::parse(text, std::ref(check));
    TC_RETURN_IF_ERROR(check.Check());
    return json;
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
