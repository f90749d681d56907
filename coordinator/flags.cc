#include "coordinator/flags.h"

#include <algorithm>
#include <cstdlib>
#include <span>
#include <sstream>

#include "base/cpu_list.h"
#include "base/str.h"
#include "base/text_file.h"
#include "base/units.h"
#include "base/version.h"
#include "comm/link.h"
#include "model/graph.h"
#include "model/kv_dtype.h"
#include "placement/cluster_yaml.h"
#include "placement/plan_tables.h"
#include "placement/planner.h"
#include "placement/wire_dtypes.h"

namespace thermocline::coordinator {
namespace {

// Of --api-key-file: some ten thousand keys.
constexpr size_t kMaxKeyFileBytes = 1 << 20;

Result<std::string> ReadFile(const std::string& path, std::string_view flag, size_t max_bytes) {
  auto text = ReadTextFile(path, max_bytes);
  if (!text.ok()) return text.status().WithContext(flag);
  return text;
}

template <typename T>
struct Choice {
  std::string_view name;
  T value;
};

template <typename T, size_t kCount>
Result<T> Choose(std::string_view flag, const std::string& text,
                 const Choice<T> (&choices)[kCount]) {
  std::string names;
  for (const Choice<T>& choice : choices) {
    if (choice.name == text) return choice.value;
    names += Str(" ", choice.name);
  }
  return InvalidArgument(Str("unknown ", flag, " \"", Printable(text), "\"; one of", names));
}

// nullopt: each pair of workers what both have.
constexpr Choice<std::optional<placement::LinkKind>> kTransports[] = {
    {"auto", std::nullopt}, {"mpi", placement::LinkKind::kMpi}, {"zmq", placement::LinkKind::kZmq}};
constexpr Choice<placement::SplitPolicy> kPolicies[] = {
    {"optimal", placement::SplitPolicy::kOptimal},
    {"frequency-greedy", placement::SplitPolicy::kFrequencyGreedy},
    {"proportional", placement::SplitPolicy::kProportional},
    {"pipeline-only", placement::SplitPolicy::kPipelineOnly},
    {"powerinfer", placement::SplitPolicy::kPowerInfer}};
constexpr Choice<proto::WeightsFrom> kWeightSources[] = {
    {"file", proto::WeightsFrom::kFile}, {"coordinator", proto::WeightsFrom::kCoordinator}};

constexpr Choice<ReplanMode> kReplanModes[] = {
    {"auto", ReplanMode::kAuto}, {"now", ReplanMode::kNow}, {"off", ReplanMode::kOff}};
// A plan that somebody gave stays until somebody wants another.
std::string ReplanOf(const ServeFlags& flags) {
  if (!flags.replan.empty()) return flags.replan;
  return flags.plan_path.empty() ? "auto" : "now";
}

bool IsLoopback(const std::string& address) {
  return address.starts_with("127.") || address == "localhost" || address == "::1";
}

Status ResolveHttp(const ServeFlags& flags, http::HttpOptions* http) {
  if (flags.port < 0 || flags.port > 65535) {
    return InvalidArgument(Str("--port out of range:", Kv("port", flags.port), "; 0 to 65535"));
  }
  http->address = flags.host;
  http->port = static_cast<uint16_t>(flags.port);
  http->n_threads = flags.n_http_threads;
  http->cors_origins = flags.cors_origins;
  http->api_keys = flags.api_keys;
  if (std::count(http->api_keys.begin(), http->api_keys.end(), "") > 0) {
    return InvalidArgument("--api-key is empty; leave it out or give a key");
  }
  if (!flags.api_key_file.empty()) {
    TC_ASSIGN_OR_RETURN(const std::string text,
                        ReadFile(flags.api_key_file, "--api-key-file", kMaxKeyFileBytes));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) http->api_keys.push_back(line);
    }
  }
  if (!IsLoopback(flags.host) && http->api_keys.empty()) {
    return InvalidArgument(Str("--host ", flags.host,
                               " is reachable from other machines: give --api-key "
                               "KEY (or --api-key-file FILE), or serve on 127.0.0.1"));
  }
  return OkStatus();
}

Status ResolveTransport(const ServeFlags& flags, WorkerSource workers,
                        placement::PlanRequest* plan) {
  using placement::LinkKind;
  const bool has_mpi = workers == WorkerSource::kMpi;
  TC_ASSIGN_OR_RETURN(const auto wanted, Choose("--transport", flags.transport, kTransports));
  plan->link_by_pair = !wanted;
  plan->link = wanted.value_or(has_mpi ? LinkKind::kMpi : LinkKind::kZmq);
  if (plan->link == LinkKind::kZmq || has_mpi) return OkStatus();
  return InvalidArgument(
      "--transport mpi needs a launch by mpirun; leave it out, or use --transport zmq");
}

Status ResolvePlan(const ServeFlags& flags, WorkerSource workers, EngineOptions* engine) {
  placement::PlanRequest& plan = engine->plan;
  if (!flags.n_ctx.empty()) {
    auto n_ctx = ParseCount(flags.n_ctx);
    if (!n_ctx.ok()) return n_ctx.status().WithContext("--ctx-size");
    if (*n_ctx > (1 << 30)) return InvalidArgument(Str("--ctx-size too large:", Kv("n", *n_ctx)));
    plan.n_ctx = static_cast<int>(*n_ctx);
  }
  plan.n_parallel = flags.n_parallel;
  TC_ASSIGN_OR_RETURN(plan.kv.dtype, model::ParseKvDtype(flags.kv_dtype));
  TC_ASSIGN_OR_RETURN(const auto wire, placement::ParseWireDtypes(flags.wire_dtype));
  plan.wire = wire.within;
  plan.wire_between_hosts = wire.between;
  TC_RETURN_IF_ERROR(ResolveTransport(flags, workers, &plan));
  if (!flags.plan_path.empty()) {
    engine->plan_name = Str("--plan ", flags.plan_path);
    TC_ASSIGN_OR_RETURN(engine->plan_json,
                        ReadFile(flags.plan_path, "--plan", placement::kMaxPlanFileBytes));
    // Format and version now; against model and workers once they are known.
    placement::SaidOfLinks said;
    const auto parsed = placement::PlanFileFromJson(engine->plan_json, {.link = plan.link}, &said);
    if (!parsed.ok()) return parsed.status().WithContext(engine->plan_name);
    if (!parsed->plan.has_links()) return OkStatus();  // what it says of them is of none
    plan.link = parsed->plan.link;
    plan.link_by_pair = plan.link_by_pair && !said.link;
  }
  return OkStatus();
}

Status ResolveCluster(const ServeFlags& flags, EngineOptions* engine) {
  engine->save_cluster_path = flags.save_cluster_path;
  if (flags.cluster_path.empty()) return OkStatus();
  TC_ASSIGN_OR_RETURN(const std::string text,
                      ReadFile(flags.cluster_path, "--cluster", placement::kMaxClusterYamlBytes));
  auto cluster = placement::ClusterFromYaml(text);
  engine->cluster_name = Str("--cluster ", flags.cluster_path);
  if (!cluster.ok()) return cluster.status().WithContext(engine->cluster_name);
  engine->cluster = *std::move(cluster);
  return OkStatus();
}

// Settings of a search that nobody has asked for: a plan by hand is not searched for, and whoever
// means later ones says so by --replan.
Status CheckSearch(const ServeFlags& flags) {
  if (flags.plan_path.empty() || flags.replan == "auto" || flags.replan == "now") return OkStatus();
  for (const auto& [flag, value] :
       {std::pair("--policy", flags.policy), std::pair("--objective", flags.objective)}) {
    if (value.empty()) continue;
    return InvalidArgument(Str(flag, " ", Printable(value),
                               " is for plans that are searched for, "
                               "but --plan gives one: leave one of them out, or add --replan now "
                               "(or auto) to search for later plans"));
  }
  return OkStatus();
}

Status ResolveObjective(const ServeFlags& flags, EngineOptions* engine) {
  TC_ASSIGN_OR_RETURN(
      engine->policy,
      Choose("--policy", flags.policy.empty() ? "optimal" : flags.policy, kPolicies));
  engine->n_streams = flags.n_streams > 0 ? flags.n_streams : flags.n_parallel;
  if (flags.n_depth >= 0) engine->n_context = flags.n_depth;
  const std::string_view objective = flags.objective;
  TC_ASSIGN_OR_RETURN(
      engine->latency_weight,
      placement::ParseObjective(objective.empty() ? placement::DefaultObjective(engine->n_streams)
                                                  : objective));
  return OkStatus();
}

Status ResolveEngine(const ServeFlags& flags, EngineOptions* engine) {
  engine->build = std::string(kVersion);
  TC_ASSIGN_OR_RETURN(engine->weights_from,
                      Choose("--weights-from", flags.weights_from, kWeightSources));
  TC_ASSIGN_OR_RETURN(engine->replan, Choose("--replan", ReplanOf(flags), kReplanModes));
  engine->max_waiting = flags.max_waiting;
  engine->max_step_tokens = flags.max_step_tokens;
  engine->plan.max_step_tokens = flags.max_step_tokens;
  engine->prefill_chunk = std::min(flags.prefill_chunk, flags.max_step_tokens);
  engine->dump_logits_dir = flags.dump_logits_dir;
  engine->join_timeout =
      std::chrono::milliseconds(static_cast<int64_t>(flags.join_timeout_s * 1e3));
  engine->load_timeout =
      std::chrono::milliseconds(static_cast<int64_t>(flags.load_timeout_s * 1e3));
  engine->replan_interval =
      std::chrono::milliseconds(static_cast<int64_t>(flags.replan_interval_s * 1e3));
  engine->drain_deadline =
      std::chrono::milliseconds(static_cast<int64_t>(flags.drain_timeout_s * 1e3));
  return engine->Validate();
}

// Rank 0 coordinates; every other rank is a worker of that number.
void ExpectWorkers(int n_workers, EngineOptions* engine) {
  for (int i = 1; i <= n_workers; ++i) {
    engine->expected.push_back({WorkerId{static_cast<uint64_t>(i)}, ""});
  }
}

bool AllOnThisHost(WorkerSource workers, int size, const comm::EnvironmentLookup& environment) {
  if (workers == WorkerSource::kBesideCoordinator) return true;
  const auto local_size = environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  return workers == WorkerSource::kMpi && local_size == std::to_string(size);
}

// "10.0.0.1" -> "tcp://10.0.0.1:*"; "0.0.0.0:40123" and "[::1]:40123" as they are; "::1" in
// brackets.
std::string BindEndpoint(const std::string& address) {
  const auto n_colons = std::count(address.begin(), address.end(), ':');
  if (n_colons > 1 && address.front() != '[') return Str("tcp://[", address, "]:*");
  const bool has_port = n_colons > 0 && address.back() != ']';
  return Str("tcp://", address, has_port ? "" : ":*");
}

std::vector<std::string> WorkerArguments(const ServeFlags& flags, bool takes_gpus) {
  std::vector<std::string> arguments = {"--log-level", flags.log_level, "--log-format",
                                        flags.log_format};
  const auto pass_on = [&](const char* flag, const std::string& value) {
    if (value.empty()) return;
    arguments.emplace_back(flag);
    arguments.push_back(value);
  };
  if (!takes_gpus) pass_on("--device", flags.device);
  pass_on("--memory", flags.memory);
  pass_on("--gpu-memory", flags.gpu_memory);
  pass_on("--gpu-rows", flags.gpu_rows);
  pass_on("--nccl", flags.nccl);
  pass_on("--cuda-graphs", flags.cuda_graphs);
  pass_on("--cache-dir", flags.cache_dir);
  if (flags.n_threads > 0) pass_on("--threads", std::to_string(flags.n_threads));
  pass_on("--cpus", flags.cpus);
  pass_on("--isa", flags.isa);
  pass_on("--shape", flags.shape);
  if (flags.slowdown > 1) pass_on("--slowdown", Str(flags.slowdown));
  return arguments;
}

// Of the worker that this host will have: it would say the same, but later.
Status CheckCpus(const ServeFlags& flags) {
  const auto cpus = ParseCpuList(flags.cpus);
  if (!cpus.ok()) return cpus.status().WithContext("--cpus");
  return ThreadsOn(*cpus, flags.n_threads).status();
}

// Removes a flag with its value, and returns that; "" when it is not there.
std::string TakeArgument(const char* flag, std::vector<std::string>* arguments) {
  const auto found = std::find(arguments->begin(), arguments->end(), flag);
  if (found == arguments->end()) return "";
  const std::string value = *(found + 1);
  arguments->erase(found, found + 2);
  return value;
}

}  // namespace

void UseGpus(const std::vector<int>& gpus, int n_cores, ServeConfig* config) {
  if (gpus.empty()) return;
  const auto n_gpus = static_cast<int>(gpus.size());
  std::vector<std::string> common = config->worker_arguments.front();
  const std::string asked_threads = TakeArgument("--threads", &common);
  const auto parsed = ParseCpuList(TakeArgument("--cpus", &common));  // checked before
  const std::vector<int> cpus = parsed.ok() ? *parsed : std::vector<int>();
  config->worker_arguments.clear();
  for (size_t i = 0; i < gpus.size(); ++i) {
    config->worker_arguments.push_back(common);
    auto& arguments = config->worker_arguments.back();
    arguments.insert(arguments.end(), {"--device", Str("cuda:", gpus[i])});
    if (cpus.empty()) continue;
    arguments.insert(arguments.end(), {"--cpus", std::to_string(cpus[i % cpus.size()])});
  }
  // As many as its CPUs when nobody asks.
  int n_threads = std::atoi(asked_threads.c_str());
  if (!cpus.empty()) {
    const size_t n_theirs = cpus.size() > gpus.size() ? gpus.size() : 0;
    const auto rest = std::span<const int>(cpus).subspan(n_theirs);
    common.insert(common.end(), {"--cpus", CpuListText(rest)});
    n_threads = std::min(n_threads, static_cast<int>(rest.size()));
  } else if (n_threads == 0) {
    n_threads = std::max(1, n_cores - n_gpus);
  }
  if (n_threads > 0) common.insert(common.end(), {"--threads", std::to_string(n_threads)});
  common.insert(common.end(), {"--device", "cpu"});
  config->worker_arguments.push_back(std::move(common));
  config->engine.expected.clear();
  ExpectWorkers(n_gpus + 1, &config->engine);
}

Result<ServeConfig> ResolveServeFlags(const ServeFlags& flags,
                                      const comm::EnvironmentLookup& environment) {
  ServeConfig config;
  const auto launch = comm::DetectMpiLaunch(environment);
  const int size = launch ? launch->size : 1;
  if (size > 1 && flags.n_workers > 0) {
    return InvalidArgument(
        "--workers is for workers that join by themselves; mpirun -n sets how "
        "many there are");
  }
  config.workers = size > 1              ? WorkerSource::kMpi
                   : flags.n_workers > 0 ? WorkerSource::kJoin
                                         : WorkerSource::kBesideCoordinator;
  ExpectWorkers(size > 1 ? size - 1 : std::max(1, flags.n_workers), &config.engine);
  TC_RETURN_IF_ERROR(CheckSearch(flags));
  TC_RETURN_IF_ERROR(ResolvePlan(flags, config.workers, &config.engine));
  TC_RETURN_IF_ERROR(ResolveObjective(flags, &config.engine));
  TC_RETURN_IF_ERROR(ResolveCluster(flags, &config.engine));
  TC_RETURN_IF_ERROR(ResolveEngine(flags, &config.engine));
  TC_ASSIGN_OR_RETURN(config.ffn, model::ParseFfnWish(flags.ffn, flags.allowed_loss));
  TC_RETURN_IF_ERROR(ResolveHttp(flags, &config.http));
  if (flags.names.empty()) {
    const size_t slash = flags.model_path.rfind('/');
    config.http.model_name = flags.model_path.substr(slash == std::string::npos ? 0 : slash + 1);
    if (config.http.model_name.ends_with(".gguf")) {
      config.http.model_name.resize(config.http.model_name.size() - 5);
    }
  } else {
    config.http.model_name = flags.names.front();
    config.http.model_aliases.assign(flags.names.begin() + 1, flags.names.end());
  }
  const bool local = AllOnThisHost(config.workers, size, environment);
  const std::string address = !flags.cluster_address.empty() ? flags.cluster_address
                              : local                        ? "127.0.0.1"
                                                             : "0.0.0.0";
  config.bind_endpoint = BindEndpoint(address);
  config.key = flags.key.empty() ? environment("THERMOCLINE_CLUSTER_KEY") : flags.key;
  if (config.workers == WorkerSource::kBesideCoordinator) TC_RETURN_IF_ERROR(CheckCpus(flags));
  if (!flags.shape.empty()) {
    const Status understood = comm::ParseShaping(flags.shape).status();
    if (!understood.ok()) return understood.WithContext("--shape");
  }
  config.takes_gpus = config.workers == WorkerSource::kBesideCoordinator && flags.device == "auto";
  config.worker_arguments = {WorkerArguments(flags, config.takes_gpus)};
  return config;
}

}  // namespace thermocline::coordinator
