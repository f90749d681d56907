// The best split of one layer at given prices: a search over the time it may take and over who
// takes part.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

// A split of the layer whose price is near the least one; exact under the conditions of LayerFill
// when sends and merges are free. `room`: bytes each device may be given; empty: any. Nullopt when
// the room or the devices' memory holds no split.
std::optional<LayerSplit> BestLayerSplit(const LayerTables& tables, const SplitPrices& prices,
                                         const std::vector<double>& room = {});

}  // namespace thermocline::placement
