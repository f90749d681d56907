// Checks the API key of a request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// True when no keys are set, or `Authorization: Bearer K` or `X-Api-Key: K` carries one of them.
// The time taken tells nothing about the keys but their lengths.
bool IsAuthorized(const HttpRequest& request, const std::vector<std::string>& keys);

}  // namespace thermocline::coordinator::http
