// Local improvement of a split: one layer after the other is split anew in the memory that the
// others leave it.
#pragma once

#include <vector>

#include "placement/solver/layer_tables.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {

// Never worse than before in the objective, and within memory if it was. The prices tell which
// device's memory to save and where on the heat axis each belongs. `pairs`: few layers may also
// change by two, which takes longer.
Split Polish(const SplitProblem& problem, const std::vector<LayerTables>& tables,
             SplitObjective objective, const SplitPrices& prices, Split split, bool pairs);

}  // namespace thermocline::placement
