#include "coordinator/http/api.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/api_key.h"
#include "coordinator/http/request_id.h"

namespace thermocline::coordinator::http {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

std::string_view MethodLabel(Method method) {
  switch (method) {
    case Method::kGet:
      return "GET";
    case Method::kHead:
      return "HEAD";
    case Method::kPost:
      return "POST";
    case Method::kOptions:
      return "OPTIONS";
    case Method::kOther:
      return "other";
  }
  return "other";
}

// Adds the headers that every response has, counts the response and logs it.
class RecordedExchange final : public Exchange {
 public:
  struct Record {
    std::string handler;
    Method method;
    std::string request_id;
    TimePoint started;
  };
  RecordedExchange(std::shared_ptr<Exchange> inner, Record record, Headers headers,
                   RequestMetrics& metrics, const Clock& clock)
      : inner_(std::move(inner)),
        record_(std::move(record)),
        headers_(std::move(headers)),
        metrics_(metrics),
        clock_(clock) {}

  void Reply(HttpResponse response) override {
    Finish(response);
    inner_->Reply(std::move(response));
  }
  void StartStream(HttpResponse head, std::string_view keep_alive) override {
    Finish(head);
    inner_->StartStream(std::move(head), keep_alive);
  }
  void Write(std::string bytes) override { inner_->Write(std::move(bytes)); }
  void EndStream() override { inner_->EndStream(); }
  void OnDisconnect(std::function<void()> callback) override {
    inner_->OnDisconnect(std::move(callback));
  }
  void Post(std::function<void()> task) override { inner_->Post(std::move(task)); }

 private:
  void Finish(HttpResponse& response) {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    metrics_.CountHttp(record_.handler, MethodLabel(record_.method), response.status);
    if (!LogEnabled(LogLevel::kDebug)) return;
    LogDebug("http", Str("answered", Kv("request", record_.request_id),
                         Kv("method", MethodLabel(record_.method)), Kv("route", record_.handler),
                         Kv("status", response.status),
                         Kv("seconds", Seconds(clock_.Now() - record_.started))));
  }

  const std::shared_ptr<Exchange> inner_;
  const Record record_;
  const Headers headers_;
  RequestMetrics& metrics_;
  const Clock& clock_;
};

Headers CorsHeaders(const std::string& origin, const std::vector<std::string>& allowed) {
  if (origin.empty()) return {};
  for (const std::string& candidate : allowed) {
    if (candidate == "*") return {{"Access-Control-Allow-Origin", "*"}};
    if (candidate == origin) {
      return {{"Access-Control-Allow-Origin", origin}, {"Vary", "Origin"}};
    }
  }
  return {};
}

std::vector<Route> AllRoutes(const ApiContext& context, RequestMetrics& request_metrics) {
  std::vector<Route> routes = StatusRoutes(context);
  std::ranges::move(TextRoutes(context), std::back_inserter(routes));
  std::ranges::move(GenerationRoutes(context, request_metrics), std::back_inserter(routes));
  return routes;
}

}  // namespace

Api::Api(const ApiContext& context)
    : context_(context),
      request_metrics_(context.metrics, context.options.model_name),
      router_(AllRoutes(context, request_metrics_)) {}

HttpResponse Api::Preflight(const HttpRequest& request, const std::string& allowed) const {
  HttpResponse response{.status = 204, .content_type = ""};
  response.headers.emplace_back("Allow", allowed);
  if (CorsHeaders(request.origin, context_.options.cors_origins).empty()) return response;
  response.headers.emplace_back("Access-Control-Allow-Methods", allowed);
  response.headers.emplace_back("Access-Control-Allow-Headers",
                                "Authorization, Content-Type, X-Api-Key, X-Request-Id");
  response.headers.emplace_back("Access-Control-Max-Age", "3600");
  return response;
}

void Api::Refuse(const HttpRequest& request, const Router::Match& match, Exchange& exchange) const {
  if (match.allowed.empty()) {
    return exchange.Reply(ErrorResponse(
        NotFoundError(Str("unknown path: ", Printable(request.path)), "unknown_url")));
  }
  HttpResponse response = ErrorResponse(
      {.status = 405,
       .message = Str("method not allowed here:", Kv("method", Printable(request.method_name, 16)),
                      " allowed=", match.allowed),
       .code = "method_not_allowed"});
  response.headers.emplace_back("Allow", match.allowed);
  exchange.Reply(std::move(response));
}

void Api::Handle(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  const Router::Match match = router_.Find(request.method, request.path);
  const std::string request_id = RequestIdOf(request.x_request_id);
  Headers headers = CorsHeaders(request.origin, context_.options.cors_origins);
  headers.emplace_back("X-Request-Id", request_id);
  RecordedExchange::Record record{match.route ? match.route->pattern : "unknown", request.method,
                                  request_id, context_.clock.Now()};
  auto recorded = std::make_shared<RecordedExchange>(
      std::move(exchange), std::move(record), std::move(headers), request_metrics_, context_.clock);
  if (request.method == Method::kOptions && !match.allowed.empty()) {
    return recorded->Reply(Preflight(request, match.allowed));
  }
  const bool is_public = match.route && match.route->is_public;
  if (!is_public && !IsAuthorized(request, context_.options.api_keys)) {
    return recorded->Reply(ErrorResponse({.status = 401,
                                          .message = "the API key is missing or wrong",
                                          .type = "authentication_error",
                                          .code = "invalid_api_key"}));
  }
  if (!match.route) return Refuse(request, match, *recorded);
  match.route->handler({std::move(request), match.path_param, request_id}, std::move(recorded));
}

}  // namespace thermocline::coordinator::http
