// What a worker offers of the memory of a device that has its own.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// What the plan may use: of the budget for the whole process, or of the device without one, what is
// left beside that which is taken there by now. Everything that is not free counts as taken by this
// process, since a device does not tell whose it is: beside other programs less is offered than
// could be, never more. kResourceExhausted names a budget that leaves nothing; 0 is no budget.
Result<uint64_t> MemoryToOffer(const kernels::Device& device, uint64_t budget_bytes);

}  // namespace thermocline::worker
