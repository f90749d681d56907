// The metrics that HTTP owns: how long requests take and how large they are.
#pragma once

#include <string>
#include <string_view>

#include "base/metrics.h"

namespace thermocline::coordinator::http {

// Registers and updates. Bucket edges are vLLM's, whose dashboards read these histograms, with
// finer ones below for small models. Borrows the registry. Thread-safe.
class RequestMetrics {
 public:
  RequestMetrics(Metrics& metrics, std::string model_name);

  void CountHttp(std::string_view handler, std::string_view method, int status);
  // `reason`: stop, length, abort or error; once per choice.
  void CountFinished(std::string_view reason);

  Histogram& time_to_first_token_s;
  Histogram& inter_token_latency_s;
  Histogram& request_latency_s;
  Histogram& prompt_tokens;
  Histogram& generation_tokens;
  Histogram& choices;
  Gauge& connections;

 private:
  Metrics& metrics_;
  const std::string model_name_;
};

}  // namespace thermocline::coordinator::http
