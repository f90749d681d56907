// The work of `thermocline machine`: measures this host as a worker would.
#pragma once

#include "base/status.h"
#include "tools/machine/flags.h"

namespace thermocline::tools {

// A table on stdout, or with --save-cluster the profile of a cluster of this one host.
Status RunMachine(const MachineFlags& flags);

}  // namespace thermocline::tools
