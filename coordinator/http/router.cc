#include "coordinator/http/router.h"

#include <charconv>
#include <optional>

namespace thermocline::coordinator::http {
namespace {

constexpr std::string_view kVersionPrefix = "/v1";

std::string_view Normalise(std::string_view path) {
  if (path.starts_with(kVersionPrefix) &&
      (path.size() == kVersionPrefix.size() || path[kVersionPrefix.size()] == '/')) {
    path.remove_prefix(kVersionPrefix.size());
  }
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path;
}

// What the pattern's '*' stands for ("" without one); nullopt when the path does not match.
std::optional<std::string_view> MatchPattern(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) {
    if (pattern == path) return std::string_view();
    return std::nullopt;
  }
  pattern.remove_suffix(1);
  if (!path.starts_with(pattern) || path.size() == pattern.size()) return std::nullopt;
  return path.substr(pattern.size());
}

std::string_view AllowedMethods(Method method) {
  return method == Method::kGet ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

}  // namespace

Router::Match Router::Find(Method method, std::string_view path) const {
  const std::string_view wanted = Normalise(path);
  const Method served = method == Method::kHead ? Method::kGet : method;
  Match match;
  for (const Route& route : routes_) {
    const auto param = MatchPattern(route.pattern, wanted);
    if (!param) continue;
    match.allowed = AllowedMethods(route.method);
    if (route.method != served) continue;
    match.route = &route;
    match.path_param = PercentDecode(*param);
    return match;
  }
  return match;
}

std::string PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, value, 16).ptr == digits + 2) {
      out.push_back(static_cast<char>(value));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

}  // namespace thermocline::coordinator::http
