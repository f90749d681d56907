// A certified lower bound on what any split of one layer costs at given prices.
#pragma once

#include <limits>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

// Valid for every assignment of blocks to devices, in intervals or not, and for any tables: it
// only uses weak duality (docs/placement.md, "Bounds"). `known` is a good split of the layer: the
// bound never exceeds its price, and the search starts from what time is worth to it. It ends early
// with a bound of `enough` or more, for those who look for the least of several.
double LayerBound(const LayerTables& tables, const SplitPrices& prices, const LayerSplit& known,
                  double enough = std::numeric_limits<double>::infinity());

}  // namespace thermocline::placement
