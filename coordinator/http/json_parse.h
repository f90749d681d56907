// Parses a request body into a JSON object, with named limits on what a client can make us build.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace thermocline::coordinator::http {

// No request of the API nests deeper than about 8.
inline constexpr int kMaxJsonDepth = 64;
// Values in one body: enough for a prompt of 10^6 token ids; bounds the tree to some 64 MB.
inline constexpr size_t kMaxJsonValues = size_t{1} << 20;

// kInvalidArgument: not JSON, not UTF-8, not an object, too deep, or too many values; the message
// names the place where parsing stopped (line and column as editors count, both from 1, and the
// byte) and never repeats the client's text.
Result<nlohmann::json> ParseJsonObject(std::string_view text);

}  // namespace thermocline::coordinator::http
