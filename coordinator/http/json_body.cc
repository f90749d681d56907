#include "coordinator/http/json_body.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <string>

#include "base/str.h"
#include "coordinator/http/json_parse.h"

namespace thermocline::coordinator::http {
namespace {

// JSON by any of its names; none at all; and what curl says about `-d` when it is told nothing.
bool IsJsonType(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  std::erase(type, ' ');
  std::ranges::transform(type, type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type.empty() || type == "application/json" || type.ends_with("+json") ||
         type == "application/x-www-form-urlencoded";
}

}  // namespace

std::optional<ApiError> ReadJsonBody(const HttpRequest& request, nlohmann::json* body) {
  if (!IsJsonType(request.content_type)) {
    return ApiError{.status = 415,
                    .message = Str("the body must be application/json, not ",
                                   Printable(request.content_type, 60)),
                    .code = "unsupported_media_type"};
  }
  auto parsed = ParseJsonObject(request.body);
  if (!parsed.ok()) return BadParameter("", parsed.status().message(), "invalid_json");
  *body = std::move(parsed).value();
  return std::nullopt;
}

}  // namespace thermocline::coordinator::http
