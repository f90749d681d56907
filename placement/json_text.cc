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

// Which keys each object under way has had; of two alike one would be lost without a word.
class KeyCheck {
 public:
  bool operator()(int /*depth*/, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys_.back().insert(key).second && !twice_) twice_ = key;
    }
    return true;
  }
  const std::optional<std::string>& twice() const { return twice_; }

 private:
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
    KeyCheck keys;
    Json json = Json::parse(text, std::ref(keys));
    if (!keys.twice()) return json;
    return InvalidArgument(
        Str("plan: field stands twice in one object: ", Printable(*keys.twice())));
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
