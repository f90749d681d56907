// The settings of `thermocline serve` as people give them, and what they mean.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "comm/mpi_launch.h"
#include "coordinator/engine.h"
#include "coordinator/http/options.h"
#include "model/ffn_mode.h"

namespace thermocline::coordinator {

// As typed. Empty and 0 mean "choose".
struct ServeFlags {
  std::string model_path;
  std::vector<std::string> names;  // the first is the model's name, the rest are aliases

  std::string host = "127.0.0.1";
  int port = 8080;
  std::vector<std::string> api_keys;
  std::string api_key_file;
  std::vector<std::string> cors_origins;
  int n_http_threads = 2;

  std::string n_ctx;  // "4096", "32K"
  int n_parallel = 4;
  int max_step_tokens = 512;
  int prefill_chunk = 128;
  int max_waiting = 256;
  std::string ffn = "auto";
  std::string predictor_path;          // a sparsity file; "": beside the model, if there
  std::optional<double> allowed_loss;  // of perplexity, relative
  std::string kv_dtype = "f32";
  std::string wire_dtype = "f32";
  std::string transport = "auto";
  std::string plan_path;
  std::string replan;  // "": auto, with a given plan now
  std::string cluster_path;
  std::string save_cluster_path;
  std::string policy;     // "optimal"
  std::string objective;  // "weighted" for several streams, else "latency"
  int n_streams = 0;      // n_parallel
  int n_depth = -1;       // half of what a stream may store
  double active = -1;     // what the profile says
  std::string weights_from = "file";
  std::string chat_template;  // a built-in name, a file or the template itself
  std::string dump_logits_dir;
  std::string trace_path;

  int n_workers = 0;            // that join by themselves; 0: MPI's, or one beside the coordinator
  std::string cluster_address;  // where workers connect: "10.0.0.1", "0.0.0.0:40123"
  std::string key;
  double join_timeout_s = 60;
  double load_timeout_s = 300;
  double replan_interval_s = 60;
  double drain_timeout_s = 30;

  // For the workers started beside a lone coordinator; under mpirun each worker reads them itself.
  std::string device = "auto";
  std::string gpu_memory;
  std::string gpu_rows;     // as-is, fp8-e4m3 or fp8-e5m2
  std::string nccl;         // auto or off
  std::string cuda_graphs;  // the same
  int n_threads = 0;
  std::string cpus;
  std::string isa;
  std::string memory;
  std::string cache_dir;
  std::string shape;
  double slowdown = 1;

  std::string log_level = "info";
  std::string log_format = "text";
};

// How the workers come to be.
enum class WorkerSource : uint8_t { kMpi, kBesideCoordinator, kJoin };

struct ServeConfig {
  model::FfnWish ffn;
  EngineOptions engine;  // without what the model file tells
  http::HttpOptions http;
  WorkerSource workers = WorkerSource::kBesideCoordinator;
  std::string bind_endpoint;  // of the control and bulk mailboxes: "tcp://127.0.0.1:*"
  std::optional<std::string> key;
  // Of each worker that starts beside the coordinator.
  std::vector<std::vector<std::string>> worker_arguments;
  bool takes_gpus = false;  // those that are there; see UseGpus
};

// Where GPUs are: a worker beside the coordinator for each of these ordinals, and one for the CPU,
// which leaves a core to each of theirs. Of CPUs that were named, the first are theirs, one each,
// while one is left for the CPU's worker; beyond that they share.
void UseGpus(const std::vector<int>& gpus, int n_cores, ServeConfig* config);

// kInvalidArgument names the flag, its value and what would be right. Reads the plan and key files.
Result<ServeConfig> ResolveServeFlags(const ServeFlags& flags,
                                      const comm::EnvironmentLookup& environment);

}  // namespace thermocline::coordinator
