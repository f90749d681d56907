// Cluster profiles as YAML: written by `thermocline plan --save-cluster`, edited by people.
//
// Format: docs/cluster-profile.md.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"
#include "placement/profile.h"

namespace thermocline::placement {

std::string ClusterToYaml(const ClusterProfile& cluster);

// kInvalidArgument names the line and the field: no YAML, an unknown field, a number that is none
// or is impossible (ValidateCluster), more than the limits below.
Result<ClusterProfile> ClusterFromYaml(std::string_view yaml);

inline constexpr size_t kMaxClusterYamlBytes = 4 << 20;
inline constexpr int kMaxClusterWorkers = 1024;
// All pairs of a cluster of 256 nodes, both ways.
inline constexpr int kMaxClusterLinks = 1 << 16;

}  // namespace thermocline::placement
