// The JSON bodies that describe the service: health, progress and the cluster snapshot.
#pragma once

#include <chrono>
#include <string>

#include "coordinator/generation_service.h"
#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

std::string_view ServiceStateName(ServiceState state);

// 200 while requests are taken, else the refusal's 503.
HttpResponse ReadyResponse(const ServiceStatus& status);

// Whether tokens flow: "idle", "ok", "changing" while streams wait for another plan, or "stalled"
// with 503 when something runs and no sequence got a token for `stall_after`. Names workers by
// number only: it needs no key.
HttpResponse ProgressResponse(const ServiceStatus& status, std::chrono::milliseconds stall_after);

// What the status page shows.
struct ClusterInfo {
  std::string model;
  int n_ctx = 0;
  double uptime_s = 0;
};
std::string ClusterJson(const ServiceStatus& status, const ClusterInfo& info);

}  // namespace thermocline::coordinator::http
