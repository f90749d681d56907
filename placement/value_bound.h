// What no plan on a cluster can be better than, in what plans are compared by.
#pragma once

#include <cstdint>

#include "placement/batch_costs.h"

namespace thermocline::placement {

// Of PlanSpeed::value_s, for KV caches of that many pages (docs/placement.md, "Bounds").
// Too low where the options' stop was set meanwhile.
double ValueBound(BatchCosts& costs, int64_t n_pages);

}  // namespace thermocline::placement
