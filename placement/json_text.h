// JSON from people, parsed without an exception.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace thermocline::placement {

// Arrays and objects in each other; a plan has five.
inline constexpr int kMaxPlanDepth = 64;

// Of a plan. kInvalidArgument: over a limit, empty, no JSON, with the line, or a field that stands
// twice in one object.
Result<nlohmann::ordered_json> ParsePlanText(std::string_view text, size_t max_bytes);

}  // namespace thermocline::placement
