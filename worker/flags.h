// The worker's settings as people give them, and their resolution into WorkerOptions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "worker/control_loop.h"

namespace thermocline::worker {

// As typed. Empty and 0 mean "choose".
struct WorkerFlags {
  std::string join;        // tcp endpoints of the coordinator, joined by commas
  std::string key;         // of the cluster; default: $THERMOCLINE_CLUSTER_KEY
  bool under_mpi = false;  // the ticket comes from rank 0
  bool die_with_parent = false;
  int n_threads = 0;       // default: this worker's share of the cores
  std::string memory;      // "1.8G"; default: this worker's share of what is available
  std::string cache_dir;   // default: $XDG_CACHE_HOME/thermocline or ~/.cache/thermocline
  std::string log_level = "info";
  std::string log_format = "text";
};

// Looks a variable of the environment up; nullptr when unset. main passes getenv.
using EnvironmentFn = std::function<const char*(const char*)>;

// kInvalidArgument names the flag, its value and what would be right.
Result<WorkerOptions> ResolveWorkerFlags(const WorkerFlags& flags, const EnvironmentFn& environment);

}  // namespace thermocline::worker
