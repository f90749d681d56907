// A certified lower bound on every plan of a model on a cluster, however it is cut into stages.
#pragma once

#include <atomic>

#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// The larger of two relaxations, in both of which every device has the most memory it can have in
// any role, and layers pay their leads for what they take of it:
//   leads: each layer chooses its lead for itself, with what the links of that lead cost, and a
//     device has one place (LeadsBound);
//   free links: one stage of all devices without links, sends, merges and parts, and the least
//     fixed times. Asked only when the bottleneck counts, where the first has little to say.
// 0 when a device cannot be asked for all layers alone, and soon after `stop` is set.
double ClusterBound(const StageModel& model, SplitObjective objective,
                    const std::atomic<bool>* stop = nullptr);

// A lower one, for little: free links, and every device at work all the time in any memory.
double RoughClusterBound(const StageModel& model, SplitObjective objective);

}  // namespace thermocline::placement
