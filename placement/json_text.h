// JSON from people, parsed without an exception.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace thermocline::placement {

// Of a plan. kInvalidArgument: over the limit, empty, or no JSON, with the line.
Result<nlohmann::ordered_json> ParsePlanText(std::string_view text, size_t max_bytes);

}  // namespace thermocline::placement
