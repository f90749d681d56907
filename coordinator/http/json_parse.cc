#include "coordinator/http/json_parse.h"

#include <nlohmann/json.hpp>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

// Checks depth and number of values before anything is built. Counts brackets and commas outside
// strings, which is exact for valid JSON and an upper bound for what a parser reaches otherwise.
Status CheckSize(std::string_view text) {
  int depth = 0;
  size_t n_values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (c == '[' || c == '{' || c == ',') ++n_values;
    if (depth > kMaxJsonDepth) {
      return InvalidArgument(
          Str("body nests too deep:", Kv("byte", i), Kv("limit", kMaxJsonDepth)));
    }
    if (n_values > kMaxJsonValues) {
      return InvalidArgument(
          Str("body has too many values:", Kv("byte", i), Kv("limit", kMaxJsonValues)));
    }
  }
  return OkStatus();
}

}  // namespace

Result<nlohmann::json> ParseJsonObject(std::string_view text) {
  TC_RETURN_IF_ERROR(CheckSize(text));
  try {
    nlohmann::json value = nlohmann::json::parse(text);
    if (!value.is_object()) {
      return InvalidArgument(Str("body must be a JSON object, not ", value.type_name()));
    }
    return value;
  } catch (const nlohmann::json::parse_error& error) {
    if (text.empty()) return InvalidArgument("body is empty; a JSON object is expected");
    return InvalidArgument(Str("body is not valid JSON in UTF-8:", Kv("byte", error.byte)));
  } catch (const nlohmann::json::exception&) {
    return InvalidArgument("body holds a number out of range");
  }
}

}  // namespace thermocline::coordinator::http
