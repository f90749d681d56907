// The JSON body of a request.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "coordinator/http/api_error.h"

namespace thermocline::coordinator::http {

// 415 for a body that says it is something else, 400 with code invalid_json for one that is none.
std::optional<ApiError> ReadJsonBody(const HttpRequest& request, nlohmann::json* body);

}  // namespace thermocline::coordinator::http
