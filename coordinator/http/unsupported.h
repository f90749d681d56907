// The list of request features that other servers have and this one refuses by name, because
// dropping them silently would change what the client gets.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "coordinator/http/api_error.h"

namespace thermocline::coordinator::http {

inline constexpr char kUnsupportedCode[] = "unsupported_parameter";

// The first feature that `body` really asks for; members at their neutral value (null, false, [],
// "none") are fine.
std::optional<ApiError> FindUnsupported(const nlohmann::json& body);

}  // namespace thermocline::coordinator::http
