// A certified lower bound on every plan of a model on a cluster, however it is cut into stages.
#pragma once

#include <atomic>

#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// The larger of two relaxations, in both of which every device has the most memory it can have in
// any role:
//   leads: each layer chooses its lead for itself, with what the links of that lead cost and what
//     the layer takes of its memory, and a device has one place (LeadsBound). Asked where latency
//     counts and layers x leads x devices are not too many;
//   free links: one stage of all devices without links, sends, merges and parts, and the least
//     fixed times. Where latency does not count, some device must hold, and be busy with, what a
//     layer takes of its lead. Asked where the bottleneck counts, or leads say nothing.
// 0 when neither says anything: free links do not where a device cannot be asked for all layers
// alone. Ends soon after `stop` is set, and is 0 then where nothing was found yet.
double ClusterBound(const StageModel& model, SplitObjective objective,
                    const std::atomic<bool>* stop = nullptr);

// A lower one, for little: free links, and every device at work all the time in any memory.
double RoughClusterBound(const StageModel& model, SplitObjective objective);

// Times that are equal but for roundings may put a bound a little above what it bounds: then it is
// that value. What is above by more is a wrong bound, which must be seen, so it stays.
double WithoutRounding(double bound, double value);

}  // namespace thermocline::placement
