// What the machine is made of. The only file that sees hwloc.
#pragma once

namespace thermocline::worker {

struct HostTopology {
  int n_cores = 0;       // physical ones, whether this process may use them or not
  int n_numa_nodes = 0;  // with memory
};

// Takes some milliseconds; zeros where the system does not say.
HostTopology ReadHostTopology();

}  // namespace thermocline::worker
