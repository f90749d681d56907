// What no plan on a cluster can be better than, in what plans are compared by.
#pragma once

#include <cstdint>

#include "placement/batch_costs.h"

namespace thermocline::placement {

// Of PlanSpeed::value_s, for KV caches of that many pages (docs/placement.md, "Bounds"). `lead`, of
// the cluster's workers, leads much of a good plan: any is right, a good one gives a better bound.
// Too low where the options' stop was set meanwhile.
double ValueBound(BatchCosts& costs, int64_t n_pages, int lead);

}  // namespace thermocline::placement
