// The settings of `thermocline plan` as people give them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"

namespace thermocline::tools {

struct PlanFlags {
  std::string model_path;

  // The cluster: a file, or so many equal workers.
  std::string cluster_path;
  int n_workers = 0;
  std::string memory;              // of each; "": 16G
  double read_gb_per_s = 0;        // of each; 0: 20
  std::string link = "10gbe-tcp";  // between hosts, where nothing was measured
  bool list_links = false;         // print the presets and end

  std::string ffn = "auto";
  std::optional<double> allowed_loss;  // of perplexity, relative
  std::string predictor_path;          // of the sparsity file; "": beside the model, if there
  double active = -1;                  // share of active neurons; negative: as the profile says
  std::string transport;  // "", "auto": as the cluster has it, and left to who serves the plan
  std::string wire_dtype = "f32";
  std::string kv_dtype = "f32";
  int n_ctx = 0;
  int n_parallel = 4;
  int batch_size = 512;
  int n_streams = 0;        // expected to decode at the same time; 0: n_parallel
  int64_t n_sequences = 0;  // of the step that is told; 0: as many as the plan has in one
  int64_t n_depth = -1;     // tokens in their context; -1: see placement::DepthToPlanFor

  std::string objective;  // see placement::ParseObjective; "": as placement::DefaultObjective
  std::string policy = "optimal";
  int max_group = 4;
  bool compare = false;  // with the other policies
  bool explain = false;  // layer by layer

  std::string plan_path;            // of a plan to judge; "": make one
  std::string output_path;          // of the plan; "" none, "-" stdout instead of the explanation
  bool with_neuron_tables = false;  // in the plan that is written
  std::string html_path;            // "" none
  std::string save_cluster;         // "" none
};

// Those that are given or, as `serve` has it, as many as --parallel.
inline int StreamsOf(const PlanFlags& flags) {
  return flags.n_streams > 0 ? flags.n_streams : flags.n_parallel;
}

// Whether the plan leaves its transports to whoever serves it.
inline bool LeavesTransport(const PlanFlags& flags) {
  return flags.transport.empty() || flags.transport == "auto";
}

// kInvalidArgument names the flag.
Status CheckPlanFlags(const PlanFlags& flags);

}  // namespace thermocline::tools
