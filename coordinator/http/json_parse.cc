#include "coordinator/http/json_parse.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

// Of the byte that a parser stopped at, counted from 1; one more than there are at the end of the
// text. Columns are characters: bytes that continue one do not count.
std::string PlaceOf(std::string_view text, size_t byte) {
  const size_t n_before = std::min(byte > 0 ? byte - 1 : 0, text.size());
  size_t line = 1, column = 1;
  for (const char c : text.substr(0, n_before)) {
    const bool continues = (static_cast<unsigned char>(c) & 0xc0) == 0x80;
    if (c == '\n') {
      ++line;
      column = 1;
    } else if (!continues) {
      ++column;
    }
  }
  return Kv("line", line) + Kv("column", column) + Kv("byte", byte);
}

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
          Str("body nests too deep:", PlaceOf(text, i + 1), Kv("limit", kMaxJsonDepth)));
    }
    if (n_values > kMaxJsonValues) {
      return InvalidArgument(
          Str("body has too many values:", PlaceOf(text, i + 1), Kv("limit", kMaxJsonValues)));
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
    const std::string_view fact = error.byte > text.size() ? "body ends within a JSON value:"
                                                           : "body is not valid JSON in UTF-8:";
    return InvalidArgument(Str(fact, PlaceOf(text, error.byte)));
  } catch (const nlohmann::json::exception&) {
    return InvalidArgument("body holds a number out of range");
  }
}

}  // namespace thermocline::coordinator::http
