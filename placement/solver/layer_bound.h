// A certified lower bound on what any split of one layer costs at given prices.
#pragma once

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

// Valid for every assignment of blocks to devices, in intervals or not, and for any tables: it
// only uses weak duality (docs/placement.md, "Bounds"). `upper` is the price of a known split of
// the layer; the bound never exceeds it, and the search ends when it is as near as 1e-4 of it.
double LayerBound(const LayerTables& tables, const SplitPrices& prices, double upper);

}  // namespace thermocline::placement
