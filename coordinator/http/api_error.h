// The error object of the API, and the one table that turns a Status into an HTTP status.
#pragma once

#include <optional>
#include <string>

#include "base/status.h"
#include "coordinator/generation_service.h"
#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// {"error":{"message","type","param","code"}}; empty `param` and `code` are null.
struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;
  std::string code;
  int retry_after_s = 0;  // 0: no Retry-After header
};

// 400 about one parameter.
inline constexpr char kMissingCode[] = "missing_required_parameter";

ApiError BadParameter(std::string param, std::string message, std::string code = "invalid_value");
// 404 with type not_found_error.
ApiError NotFoundError(std::string message, std::string code);
// The table. Messages of kInternal, kDataLoss, kAborted and kUnavailable may name hosts and files,
// so clients get a general sentence; the caller logs the Status.
ApiError FromStatus(const Status& status);
// Why the service takes no requests now; nullopt when it does.
std::optional<ApiError> Refusal(const ServiceStatus& status);

std::string ErrorJson(const ApiError& error);
HttpResponse ErrorResponse(const ApiError& error);

}  // namespace thermocline::coordinator::http
