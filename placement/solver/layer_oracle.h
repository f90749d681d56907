// The best split of one layer at given prices: a search over the time it may take and over who
// takes part.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

struct OracleOptions {
  std::vector<double> room = {};      // bytes each device may be given; empty: any
  const LayerSplit* known = nullptr;  // a good split to start from besides
  bool thorough = true;               // false: members are only added and dropped, not exchanged
};

// A split of the layer whose price is near the least one; at least as good as `known`. Nullopt when
// the room or the devices' memory holds no split.
std::optional<LayerSplit> BestLayerSplit(const LayerTables& tables, const SplitPrices& prices,
                                         const OracleOptions& options = {});

}  // namespace thermocline::placement
