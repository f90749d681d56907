#include "coordinator/http/request_metrics.h"

#include <utility>

namespace thermocline::coordinator::http {
namespace {

// Seconds. Source: vLLM's loggers; dashboards compute quantiles from exactly these.
constexpr double kFirstTokenEdges[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                       1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kInterTokenEdges[] = {.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3,
                                       .4,   .5,    .75,  1,   2.5,  5,   7.5,  10, 20,  40, 80};
constexpr double kLatencyEdges[] = {.05, .1, .3, .5, .8, 1,   1.5, 2,   2.5, 5,    10,  15,
                                    20,  30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
// Tokens: 1-2-5 steps up to a long context.
constexpr double kTokenEdges[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                  1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
constexpr double kChoiceEdges[] = {1, 2, 5, 10, 20};

}  // namespace

RequestMetrics::RequestMetrics(Metrics& metrics, std::string model_name)
    : time_to_first_token_s(metrics.AddHistogram("thermocline_time_to_first_token_seconds",
                                                 "Time from a request to its first token.",
                                                 kFirstTokenEdges, {{"model_name", model_name}})),
      inter_token_latency_s(metrics.AddHistogram("thermocline_inter_token_latency_seconds",
                                                 "Time between two tokens of a sequence.",
                                                 kInterTokenEdges, {{"model_name", model_name}})),
      request_latency_s(metrics.AddHistogram("thermocline_request_latency_seconds",
                                             "Time from a request to its last token.",
                                             kLatencyEdges, {{"model_name", model_name}})),
      prompt_tokens(metrics.AddHistogram("thermocline_request_prompt_tokens",
                                         "Prompt tokens of a request.", kTokenEdges,
                                         {{"model_name", model_name}})),
      generation_tokens(metrics.AddHistogram("thermocline_request_generation_tokens",
                                             "Generated tokens of a request.", kTokenEdges,
                                             {{"model_name", model_name}})),
      choices(metrics.AddHistogram("thermocline_request_choices",
                                   "Choices a request asked for (n).", kChoiceEdges,
                                   {{"model_name", model_name}})),
      connections(metrics.AddGauge("thermocline_http_connections", "Open HTTP connections.")),
      metrics_(metrics),
      model_name_(std::move(model_name)) {}

void RequestMetrics::CountHttp(std::string_view handler, std::string_view method, int status) {
  metrics_
      .AddCounter("http_requests_total", "HTTP requests by route, method and status.",
                  {{"handler", std::string(handler)},
                   {"method", std::string(method)},
                   {"status", std::to_string(status)}})
      .Add();
}

void RequestMetrics::CountFinished(std::string_view reason) {
  metrics_
      .AddCounter("thermocline_choices_finished_total", "Choices that ended, by reason.",
                  {{"model_name", model_name_}, {"finished_reason", std::string(reason)}})
      .Add();
}

}  // namespace thermocline::coordinator::http
