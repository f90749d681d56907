#include "coordinator/http/health.h"

#include <nlohmann/json.hpp>

#include "coordinator/http/api_error.h"

namespace thermocline::coordinator::http {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string_view ProgressVerdict(const ServiceStatus& status,
                                 std::chrono::milliseconds stall_after) {
  if (status.state == ServiceState::kFailed) return "failed";
  if (status.n_running == 0 && status.n_waiting == 0) return "idle";
  const double limit_s = std::chrono::duration<double>(stall_after).count();
  if (status.last_token_age_s <= limit_s) return "ok";
  return status.plan.streams_wait ? "changing" : "stalled";  // which has deadlines of its own
}

Json ExpectedJson(const ExpectedSpeed& expected) {
  return {{"sequences", expected.n_sequences},
          {"step_s", expected.step_s},
          {"stage_s", expected.stage_s},
          {"streams", expected.n_streams},
          {"tokens_per_s", expected.tokens_per_s},
          {"one_stream_tokens_per_s", expected.one_stream_tokens_per_s}};
}

Json FigureJson(const placement::Figure& figure) {
  if (!figure.known()) return nullptr;
  return {{"value", figure.value}, {"origin", placement::OriginName(figure.origin)}};
}

Json GpuJson(const placement::GpuInfo& gpu) {
  Json body = {{"name", gpu.name},
               {"pci_bus_id", gpu.pci_bus_id},
               {"driver", gpu.driver},
               {"compute_capability", gpu.compute_capability},
               {"memory_bytes", gpu.memory_bytes},
               {"free_bytes", gpu.free_bytes},
               {"pcie_generation", gpu.pcie_generation},
               {"pcie_lanes", gpu.pcie_lanes},
               {"nvlinks", gpu.n_nvlinks},
               {"nvlink_generation", gpu.nvlink_generation},
               {"numa_node", gpu.numa_node},
               {"cpus", gpu.cpus},
               {"read_bytes_per_s", FigureJson(gpu.read_bytes_per_s)},
               {"peers", Json::array()}};
  for (const placement::GpuPeer& peer : gpu.peers) {
    body["peers"].push_back({{"gpu", peer.gpu},
                             {"path", placement::GpuPathName(peer.path)},
                             {"nvlinks", peer.n_nvlinks},
                             {"latency_s", FigureJson(peer.latency_s)},
                             {"bytes_per_s", FigureJson(peer.bytes_per_s)}});
  }
  return body;
}

Json GpusJson(const std::vector<placement::GpuInfo>& gpus) {
  Json body = Json::array();
  for (const placement::GpuInfo& gpu : gpus) body.push_back(GpuJson(gpu));
  return body;
}

Json WorkerJson(const WorkerStatus& worker) {
  return {{"id", worker.id.value},
          {"host", worker.host},
          {"device", worker.device},
          {"cores", worker.n_cores},
          {"stage", worker.stage},
          {"leaving", worker.leaving},
          {"helper", worker.is_helper},
          {"layer_begin", worker.layer_begin},
          {"layer_end", worker.layer_end},
          {"bytes_done", worker.bytes_done},
          {"bytes_total", worker.bytes_total},
          {"memory_bytes", worker.memory_bytes},
          {"peak_rss_bytes", worker.peak_rss_bytes},
          {"heartbeat_age_s", worker.heartbeat_age_s},
          {"busy", worker.busy_fraction},
          {"link_bytes_sent", worker.link_bytes_sent},
          {"kv_pages_used", worker.kv_pages_used},
          {"gpus", GpusJson(worker.gpus)}};
}

Json LinksJson(const std::vector<LinkStatus>& links) {
  Json body = Json::array();
  for (const LinkStatus& link : links) {
    Json& one = body.emplace_back(Json{{"from", link.from.value},
                                       {"to", link.to.value},
                                       {"transport", placement::LinkKindName(link.transport)},
                                       {"wire", DTypeName(link.wire)}});
    if (!link.latency_s.known() || !link.bytes_per_s.known()) continue;
    one["latency_us"] = link.latency_s.value * 1e6;
    one["gb_per_s"] = link.bytes_per_s.value / 1e9;
    one["measured"] = link.bytes_per_s.origin == placement::Origin::kMeasured;
  }
  return body;
}

Json PlanJson(const PlanStatus& plan) {
  Json body = {{"changing", plan.is_changing},
               {"changes", plan.n_changes},
               {"workers_lost", plan.n_lost},
               {"drift", plan.drift},
               {"predicted_gain", plan.predicted_gain},
               {"tokens_looked_at", plan.tokens_looked_at},
               {"news", plan.news},
               {"links", LinksJson(plan.links)}};
  if (plan.n_changes > 0) {
    body["last_change"] = {{"why", plan.why},
                           {"age_s", plan.age_s},
                           {"pause_s", plan.pause_s},
                           {"predicted_gain", plan.change_gain},
                           {"kept_bytes", plan.kept_bytes},
                           {"read_bytes", plan.read_bytes}};
  }
  return body;
}

}  // namespace

std::string_view ServiceStateName(ServiceState state) {
  switch (state) {
    case ServiceState::kStarting:
      return "starting";
    case ServiceState::kPlanning:
      return "planning";
    case ServiceState::kLoading:
      return "loading";
    case ServiceState::kReady:
      return "ready";
    case ServiceState::kDraining:
      return "draining";
    case ServiceState::kFailed:
      return "failed";
  }
  return "unknown";
}

HttpResponse ReadyResponse(const ServiceStatus& status) {
  if (const auto refusal = Refusal(status)) return ErrorResponse(*refusal);
  HttpResponse response;
  response.body = R"({"status":"ok"})";
  return response;
}

HttpResponse ProgressResponse(const ServiceStatus& status, std::chrono::milliseconds stall_after) {
  const std::string_view verdict = ProgressVerdict(status, stall_after);
  Json body = {{"status", verdict},
               {"state", ServiceStateName(status.state)},
               {"running", status.n_running},
               {"waiting", status.n_waiting},
               {"last_token_age_s", status.last_token_age_s},
               {"workers", Json::array()}};
  for (const WorkerStatus& worker : status.workers) {
    body["workers"].push_back({{"id", worker.id.value},
                               {"stage", worker.stage},
                               {"heartbeat_age_s", worker.heartbeat_age_s}});
  }
  HttpResponse response;
  response.status = verdict == "stalled" || verdict == "failed" ? 503 : 200;
  response.body = Dump(body);
  return response;
}

std::string ClusterJson(const ServiceStatus& status, const ClusterInfo& info) {
  Json body = {{"state", ServiceStateName(status.state)},
               {"model", info.model},
               {"n_ctx", info.n_ctx},
               {"uptime_s", info.uptime_s},
               {"epoch", status.epoch},
               {"running", status.n_running},
               {"waiting", status.n_waiting},
               {"kv_tokens_used", status.kv_tokens_used},
               {"kv_tokens_total", status.kv_tokens_total},
               {"prompt_tokens", status.prompt_tokens},
               {"generated_tokens", status.generated_tokens},
               {"steps", status.steps},
               {"preemptions", status.preemptions},
               {"last_token_age_s", status.last_token_age_s},
               {"plan", PlanJson(status.plan)},
               {"workers", Json::array()}};
  if (status.expected) body["expected"] = ExpectedJson(*status.expected);
  for (const WorkerStatus& worker : status.workers) body["workers"].push_back(WorkerJson(worker));
  return Dump(body);
}

}  // namespace thermocline::coordinator::http
