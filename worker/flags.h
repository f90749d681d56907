// The worker's settings as people give them, and their resolution into WorkerOptions.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "comm/mpi_launch.h"
#include "worker/control_loop.h"

namespace thermocline::worker {

// Beyond this a worker would be taken for one that hangs.
inline constexpr double kMaxSlowdown = 100;

// As typed. Empty and 0 mean "choose".
struct WorkerFlags {
  std::string join;        // tcp endpoints of the coordinator, joined by commas
  std::string key;         // of the cluster; default: $THERMOCLINE_CLUSTER_KEY
  bool under_mpi = false;  // the ticket comes from rank 0
  bool die_with_parent = false;
  bool lists_gpus = false;  // and does nothing else
  int n_threads = 0;        // default: one per CPU of `cpus`, or this worker's share of the cores
  std::string cpus;         // "0-3,8", shared evenly with other workers that a launcher put here
  std::string device = "auto";  // see kernels::ParseDeviceChoice
  std::string isa = "auto";     // instruction set of the CPU's kernels
  double slowdown = 1;          // for experiments: of computing
  std::string memory;           // "1.8G"; default: this worker's share of 90 % of what is available
  std::string gpu_memory;       // the same of a GPU; default: 95 % of what is free there
  std::string gpu_rows = "as-is";    // see model::NeuronRows
  std::string nccl = "auto";         // "off": GPUs reach each other by way of the host
  std::string cuda_graphs = "auto";  // "off": a GPU is told each op of each step
  std::string cache_dir;             // default: $XDG_CACHE_HOME/thermocline or ~/.cache/thermocline
  std::string shape;                 // see comm::ParseShaping; "": links are as they are
  std::string log_level = "info";
  std::string log_format = "text";
};

// kInvalidArgument names the flag, its value and what would be right.
Result<WorkerOptions> ResolveWorkerFlags(const WorkerFlags& flags,
                                         const comm::EnvironmentLookup& environment);

}  // namespace thermocline::worker
