// Writes metrics in Prometheus' text format, with the names that vLLM's and llama.cpp's dashboards
// ask for beside our own.
//
// Source: prometheus.io "Exposition formats", text format 0.0.4.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "coordinator/generation_service.h"

namespace thermocline::coordinator::http {

inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

std::string MetricsText(const std::vector<MetricFamily>& families);

// The families that a snapshot of the service gives: the engine's under thermocline_*, and one
// series per worker for the first Metrics::kMaxSeriesPerFamily of them.
std::vector<MetricFamily> ServiceFamilies(const ServiceStatus& status, std::string_view model_name);

// Copies of the known thermocline_* families under the names vllm:* and llamacpp:*.
std::vector<MetricFamily> AliasFamilies(const std::vector<MetricFamily>& families);

}  // namespace thermocline::coordinator::http
