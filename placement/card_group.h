// Which helpers of a stage are on cards in a group with their lead, and what comes by it. Of those
// that can be in one, one rule for the coordinator, which makes groups, and the planner, which says
// what they are worth. Who can be each knows by itself: the planner by profiles (below), the
// coordinator by what workers say of their cards and of NCCL as they are now (gpu_group).
#pragma once

#include <vector>

#include "placement/plan.h"
#include "placement/profile.h"

namespace thermocline::placement {

struct CardGroup {
  std::vector<int> helpers;  // of the stage, ascending
  // Heads come by the group where all of its helpers have some, else none do: x before attention
  // goes out to the whole group.
  bool has_heads = false;
  bool Has(int helper) const;
};

// Of the helpers that can be in one, ascending: those with neurons, whose sums the group adds, or
// all where none of them has any. Who has heads only would keep all sums from the group.
CardGroup GroupOf(const StagePlan& stage, const std::vector<int>& can_be);

// Of those that can by their profiles: on cards of their own, with NCCL of the lead's version, on
// its host or another. Its workers are in the cluster.
CardGroup GroupOf(const StagePlan& stage, const ClusterProfile& cluster);

}  // namespace thermocline::placement
