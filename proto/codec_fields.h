// Reading single fields of messages: what comes from outside is checked here. For the codec's own
// files.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/str.h"
#include "proto/codec.h"

namespace thermocline::proto {

inline Status OutOfRange(std::string_view field, int64_t value, int64_t low, int64_t high) {
  return DataLoss(
      Str("message: ", field, " out of range: ", value, " is not in ", low, "..", high));
}

template <typename Int>
Status GetInt(std::string_view field, int64_t value, int64_t low, int64_t high, Int* out) {
  if (value < low || value > high) return OutOfRange(field, value, low, high);
  *out = static_cast<Int>(value);
  return OkStatus();
}

template <typename Enum>
Status GetEnum(std::string_view field, uint32_t value, Enum last, Enum* out) {
  if (value > static_cast<uint32_t>(last)) {
    return OutOfRange(field, value, 0, static_cast<int64_t>(last));
  }
  *out = static_cast<Enum>(value);
  return OkStatus();
}

inline Status GetText(std::string_view field, const std::string& value, std::string* out) {
  if (value.size() > kMaxTextBytes) {
    return DataLoss(
        Str("message: ", field, " is too long: bytes=", value.size(), " limit=", kMaxTextBytes));
  }
  *out = value;
  return OkStatus();
}

template <typename Float>
Status GetFinite(std::string_view field, Float value, Float* out) {
  if (!std::isfinite(value)) return DataLoss(Str("message: ", field, " is not finite"));
  *out = value;
  return OkStatus();
}

inline Status CheckCount(std::string_view field, int64_t n, int64_t limit) {
  if (n <= limit) return OkStatus();
  return DataLoss(Str("message: too many ", field, ": n=", n, " limit=", limit));
}

template <typename Repeated>
Status GetTokens(std::string_view field, const Repeated& wire, int64_t limit,
                 std::vector<int32_t>* out) {
  TC_RETURN_IF_ERROR(CheckCount(field, wire.size(), limit));
  for (const int32_t token : wire) {
    if (token < 0) return OutOfRange(field, token, 0, std::numeric_limits<int32_t>::max());
  }
  out->assign(wire.begin(), wire.end());
  return OkStatus();
}

inline std::string Cut(const std::string& text) { return text.substr(0, kMaxTextBytes); }

inline constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
inline constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

}  // namespace thermocline::proto
