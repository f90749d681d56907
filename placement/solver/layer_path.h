// The cheapest split of a layer in a given time when taking part has a price: a shortest path.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

// Devices in the order of their byte price from the cold end, each taking an interval or none:
//   f_d(k) = min( f_{d-1}(k), min over allowed j > k of f_{d-1}(j) + open_d + price_d[k, j) )
// where f is the price of all blocks from k on, and an interval is allowed when it ends by T from
// starts[d] (kNever: out), fits the room and has the least size. Exact over splits of that order,
// for any tables; O(D N) with a sliding minimum. T = kNever: in any time.
std::optional<LayerSplit> CheapestPath(const LayerTables& tables, const SplitPrices& prices,
                                       const std::vector<double>& starts, double T,
                                       const std::vector<double>& room);

}  // namespace thermocline::placement
