// Why no plan fits, and what would help.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "placement/batch_costs.h"

namespace thermocline::placement {

// kResourceExhausted, by how much, were memory all that counts: a plan may fail by less, for layers
// and neurons come in pieces, or because a helper holds some weights twice.
Status DoesNotFit(BatchCosts& costs, int64_t n_pages, const Status& why);

}  // namespace thermocline::placement
