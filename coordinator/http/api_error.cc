#include "coordinator/http/api_error.h"

#include <nlohmann/json.hpp>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

// Seconds a client should wait. A full queue moves with the next finished sequence; loading and
// draining take longer.
constexpr int kRetryQueueFullS = 1;
constexpr int kRetryLoadingS = 5;

struct Mapping {
  StatusCode code;
  int http_status;
  const char* type;
  const char* api_code;
  const char* public_message;  // nullptr: the Status's own
  int retry_after_s;
};

constexpr Mapping kMappings[] = {
    {StatusCode::kInvalidArgument, 400, "invalid_request_error", "", nullptr, 0},
    {StatusCode::kNotFound, 404, "not_found_error", "", nullptr, 0},
    {StatusCode::kResourceExhausted, 429, "rate_limit_error", "queue_full", nullptr,
     kRetryQueueFullS},
    {StatusCode::kUnavailable, 503, "unavailable_error", "degraded",
     "the service cannot serve this request now", kRetryLoadingS},
    {StatusCode::kDeadlineExceeded, 504, "server_error", "deadline_exceeded", nullptr, 0},
    {StatusCode::kAborted, 503, "unavailable_error", "cancelled",
     "the service cancelled this request", kRetryLoadingS},
};
constexpr Mapping kInternalMapping = {
    StatusCode::kInternal,
    500,
    "server_error",
    "internal",
    "the request failed inside the service; its log has the cause under this x-request-id",
    0};

const Mapping& MappingOf(StatusCode code) {
  for (const Mapping& mapping : kMappings) {
    if (mapping.code == code) return mapping;
  }
  return kInternalMapping;
}

nlohmann::ordered_json StringOrNull(const std::string& text) {
  if (text.empty()) return nullptr;
  return text;
}

// "loading the model: 41 %", from the bytes that the workers report.
std::string LoadingMessage(const ServiceStatus& status) {
  uint64_t done = 0, total = 0;
  for (const WorkerStatus& worker : status.workers) {
    done += worker.bytes_done;
    total += worker.bytes_total;
  }
  if (status.state == ServiceState::kPlanning) return "planning which worker holds what";
  if (total == 0) return "the service is starting";
  const int percent =
      static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total));
  return Str("loading the model: ", percent, " %");
}

}  // namespace

ApiError BadParameter(std::string param, std::string message, std::string code) {
  return {.status = 400,
          .message = std::move(message),
          .param = std::move(param),
          .code = std::move(code)};
}

ApiError NotFoundError(std::string message, std::string code) {
  return {.status = 404,
          .message = std::move(message),
          .type = "not_found_error",
          .code = std::move(code)};
}

ApiError FromStatus(const Status& status) {
  const Mapping& mapping = MappingOf(status.code());
  return {.status = mapping.http_status,
          .message = mapping.public_message ? mapping.public_message : status.message(),
          .type = mapping.type,
          .code = mapping.api_code,
          .retry_after_s = mapping.retry_after_s};
}

std::optional<ApiError> Refusal(const ServiceStatus& status) {
  ApiError error{.status = 503, .type = "unavailable_error", .retry_after_s = kRetryLoadingS};
  switch (status.state) {
    case ServiceState::kReady:
      return std::nullopt;
    case ServiceState::kStarting:
    case ServiceState::kPlanning:
    case ServiceState::kLoading:
      error.message = LoadingMessage(status);
      error.code = "loading";
      break;
    case ServiceState::kDraining:
      error.message = "the service is shutting down and takes no new requests";
      error.code = "draining";
      break;
    case ServiceState::kFailed:
      error.message = "the service has failed and takes no requests";
      error.code = "failed";
      break;
  }
  return error;
}

std::string ErrorJson(const ApiError& error) {
  const nlohmann::ordered_json body = {{"error",
                                        {{"message", error.message},
                                         {"type", error.type},
                                         {"param", StringOrNull(error.param)},
                                         {"code", StringOrNull(error.code)}}}};
  return body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = ErrorJson(error);
  if (error.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  }
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace thermocline::coordinator::http
