#include "worker/probe/host_topology.h"

#include <hwloc.h>

#include <algorithm>

namespace thermocline::worker {

HostTopology ReadHostTopology() {
  HostTopology host;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return host;
  // All of the machine, as other workers of this host are told too.
  (void)hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  if (hwloc_topology_load(topology) == 0) {
    host.n_cores = std::max(0, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE));
    host.n_numa_nodes = std::max(0, hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE));
  }
  hwloc_topology_destroy(topology);
  return host;
}

}  // namespace thermocline::worker
