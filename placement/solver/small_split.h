// The best split of a small problem, by looking at all that could be better than a known one.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {

struct SmallSplitResult {
  std::optional<Split> better;  // than the known value; the best of those seen
  bool complete = false;        // nothing else is better
};

// Enumerates the splits of every layer and searches their combinations by depth, cut off by the
// dual at `prices` (busy prices at most 1 - latency in all). Gives up, having looked at some or at
// nothing, where there are too many: with few layers that is when rounding prices to one split a
// layer loses most, with many it hardly loses anything.
SmallSplitResult SearchSmallSplits(const SplitProblem& problem,
                                   const std::vector<LayerTables>& tables, SplitObjective objective,
                                   const SplitPrices& prices, double known_value);

}  // namespace thermocline::placement
