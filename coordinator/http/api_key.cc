#include "coordinator/http/api_key.h"

#include <algorithm>
#include <cctype>

namespace thermocline::coordinator::http {
namespace {

// Nothing given, as by an absent header, equals no key.
bool EqualInConstantTime(std::string_view given, std::string_view key) {
  if (given.empty()) return false;
  unsigned char difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < key.size(); ++i) {
    const char c = i < given.size() ? given[i] : '\0';
    difference = static_cast<unsigned char>(difference | (c ^ key[i]));
  }
  return difference == 0;
}

// The token of "Bearer K"; the scheme's case does not matter (RFC 9110, 11.1).
std::string_view BearerToken(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return {};
  const bool matches = std::equal(
      kScheme.begin(), kScheme.end(), authorization.begin(),
      [](char want, char have) { return std::tolower(static_cast<unsigned char>(have)) == want; });
  if (!matches) return {};
  authorization.remove_prefix(kScheme.size());
  authorization.remove_prefix(std::min(authorization.find_first_not_of(' '), authorization.size()));
  return authorization;
}

}  // namespace

bool IsAuthorized(const HttpRequest& request, const std::vector<std::string>& keys) {
  if (keys.empty()) return true;
  const std::string_view bearer = BearerToken(request.authorization);
  bool found = false;
  for (const std::string& key : keys) {
    found |= EqualInConstantTime(bearer, key);
    found |= EqualInConstantTime(request.x_api_key, key);
  }
  return found;
}

}  // namespace thermocline::coordinator::http
