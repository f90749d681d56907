// What the cluster is: the numbers each worker measured about itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"

namespace thermocline::placement {

struct WorkerProfile {
  WorkerId id;
  std::string host;
  int n_cores = 0;
  uint64_t memory_bytes = 0;  // what this worker may use: --memory, else what is free
  double read_bytes_per_s =
      0;  // sustained read bandwidth with the threads it will use; 0 = unknown
  friend bool operator==(const WorkerProfile&, const WorkerProfile&) = default;
};

struct ClusterProfile {
  std::vector<WorkerProfile> workers;
};

}  // namespace thermocline::placement
