// Whether mpirun started this process, told from its environment without starting MPI.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace thermocline::comm {

struct LaunchInfo {
  int rank = 0;
  int size = 0;
};

// The value of an environment variable, or nullopt. Only main reads the real environment.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

// Rank and size as Open MPI (OMPI_COMM_WORLD_*) and MPICH's or Intel's hydra (PMI_*) tell them.
// nullopt when neither did, or when what they say makes no sense.
std::optional<LaunchInfo> DetectMpiLaunch(const EnvironmentLookup& lookup);

}  // namespace thermocline::comm
