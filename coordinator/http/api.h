// The API: which path does what, who may call it, and what every response carries.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "coordinator/generation_service.h"
#include "coordinator/http/message.h"
#include "coordinator/http/options.h"
#include "coordinator/http/request_metrics.h"
#include "coordinator/http/router.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

// What the handlers work with; borrowed, outlives them.
struct ApiContext {
  const HttpOptions& options;
  const ModelCard& card;
  GenerationService& service;
  const model::Tokenizer& tokenizer;
  const model::ChatTemplate* chat_template;  // null: chat is refused
  const Clock& clock;
  Metrics& metrics;
};

// Immutable after construction, so thread-safe; borrows the context's objects.
class Api {
 public:
  explicit Api(const ApiContext& context);

  // Answers `request` through `exchange`, at once or later, exactly once. On the exchange's strand.
  void Handle(HttpRequest request, std::shared_ptr<Exchange> exchange);

  RequestMetrics& request_metrics() { return request_metrics_; }

 private:
  HttpResponse Preflight(const HttpRequest& request, const std::string& allowed) const;
  void Refuse(const HttpRequest& request, const Router::Match& match, Exchange& exchange) const;

  ApiContext context_;
  RequestMetrics request_metrics_;
  Router router_;
};

// The routes by subject; each borrows what it is given.
std::vector<Route> StatusRoutes(const ApiContext& context);
std::vector<Route> TextRoutes(const ApiContext& context);
std::vector<Route> GenerationRoutes(const ApiContext& context, RequestMetrics& request_metrics);

}  // namespace thermocline::coordinator::http
