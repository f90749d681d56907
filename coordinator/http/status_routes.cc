// The routes about the service itself: models, health, metrics, version, the cluster snapshot and
// its page, and the wish for another plan.
#include <nlohmann/json.hpp>
#include <utility>

#include "base/str.h"
#include "coordinator/http/api.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/health.h"
#include "coordinator/http/metrics_text.h"
#include "coordinator/http/status_page.h"

namespace thermocline::coordinator::http {
namespace {

using Json = nlohmann::ordered_json;

struct StatusContext {
  ApiContext api;
  TimePoint started;
};

HttpResponse JsonResponse(const Json& body) {
  HttpResponse response;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

Json ModelJson(const ApiContext& context, const std::string& name) {
  const ModelCard& card = context.card;
  return {{"id", name},
          {"object", "model"},
          {"created", card.created},
          {"owned_by", "thermocline"},
          {"root", context.options.model_name},
          {"parent", nullptr},
          {"max_model_len", context.service.n_ctx()},
          {"meta",
           {{"architecture", card.architecture},
            {"n_vocab", context.tokenizer.n_vocab()},
            {"n_ctx_train", card.n_ctx_train},
            {"n_params", card.n_params},
            {"size", card.size_bytes}}}};
}

std::vector<std::string> ServedNames(const HttpOptions& options) {
  std::vector<std::string> names = {options.model_name};
  names.insert(names.end(), options.model_aliases.begin(), options.model_aliases.end());
  return names;
}

HttpResponse ListModels(const StatusContext& context, const Call&) {
  Json data = Json::array();
  for (const std::string& name : ServedNames(context.api.options)) {
    data.push_back(ModelJson(context.api, name));
  }
  return JsonResponse({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse OneModel(const StatusContext& context, const Call& call) {
  for (const std::string& name : ServedNames(context.api.options)) {
    if (name == call.path_param) return JsonResponse(ModelJson(context.api, name));
  }
  ApiError error = NotFoundError(Str("the model does not exist: ", Printable(call.path_param)),
                                 "model_not_found");
  error.param = "model";
  return ErrorResponse(error);
}

HttpResponse Live(const StatusContext&, const Call&) { return JsonResponse({{"status", "ok"}}); }

HttpResponse Ready(const StatusContext& context, const Call&) {
  return ReadyResponse(context.api.service.status());
}

HttpResponse Progress(const StatusContext& context, const Call&) {
  return ProgressResponse(context.api.service.status(), context.api.options.stall_after);
}

HttpResponse MetricsPage(const StatusContext& context, const Call&) {
  std::vector<MetricFamily> families = context.api.metrics.Collect();
  const auto append = [&families](std::vector<MetricFamily> more) {
    std::move(more.begin(), more.end(), std::back_inserter(families));
  };
  append(ServiceFamilies(context.api.service.status(), context.api.options.model_name));
  append(AliasFamilies(families));
  HttpResponse response;
  response.content_type = kMetricsContentType;
  response.body = MetricsText(families);
  return response;
}

HttpResponse Version(const StatusContext&, const Call&) {
  return JsonResponse({{"version", TC_VERSION}, {"name", "thermocline"}});
}

HttpResponse Cluster(const StatusContext& context, const Call&) {
  HttpResponse response;
  const ClusterInfo info{.model = context.api.options.model_name,
                         .n_ctx = context.api.service.n_ctx(),
                         .uptime_s = Seconds(context.api.clock.Now() - context.started)};
  response.body = ClusterJson(context.api.service.status(), info);
  return response;
}

HttpResponse Page(const StatusContext&, const Call&) { return StatusPage(); }

// Accepted is not done: the plan is made and loaded while streams wait, and /cluster tells.
// Browsers name their page in Origin; a page has no business here.
HttpResponse Replan(const StatusContext& context, const Call& call) {
  if (!call.request.origin.empty()) {
    return ErrorResponse({.status = 403, .message = "plans are not changed from web pages"});
  }
  const auto asked = context.api.service.Replan(call.request.body);
  if (asked.status().code() == StatusCode::kUnavailable) {
    return ErrorResponse(
        {.status = 409, .message = asked.status().message(), .code = "plan_stays"});
  }
  if (!asked.ok()) return ErrorResponse(FromStatus(asked.status()));
  if (*asked == ReplanAnswer::kServesAlready) return JsonResponse({{"status", "unchanged"}});
  HttpResponse response = JsonResponse({{"status", "accepted"}});
  response.status = 202;
  return response;
}

using StatusHandler = HttpResponse (*)(const StatusContext& context, const Call& call);

struct StatusRoute {
  const char* pattern;
  StatusHandler handler;
  bool is_public;
  Method method = Method::kGet;
};

// Health answers probes that have no key; the page holds no data, it asks for the key itself.
// /v2/health/... and /ping are the names that KServe and SageMaker probe.
constexpr StatusRoute kStatusRoutes[] = {
    {"/", Page, true},
    {"/health", Ready, true},
    {"/ping", Ready, true},
    {"/health/live", Live, true},
    {"/health/ready", Ready, true},
    {"/health/progress", Progress, true},
    {"/v2/health/live", Live, true},
    {"/v2/health/ready", Ready, true},
    {"/models", ListModels, false},
    {"/models/*", OneModel, false},
    {"/metrics", MetricsPage, false},
    {"/version", Version, false},
    {"/cluster", Cluster, false},
    {"/cluster/replan", Replan, false, Method::kPost},
};

}  // namespace

std::vector<Route> StatusRoutes(const ApiContext& context) {
  const StatusContext status{context, context.clock.Now()};
  std::vector<Route> routes;
  for (const StatusRoute& route : kStatusRoutes) {
    const Handler handler = [status, handle = route.handler](
                                const Call& call, const std::shared_ptr<Exchange>& exchange) {
      exchange->Reply(handle(status, call));
    };
    routes.push_back({route.method, route.pattern, handler, route.is_public});
  }
  return routes;
}

}  // namespace thermocline::coordinator::http
