// What a worker offers of the memory of a device that has its own.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

struct DeviceBudget {
  uint64_t bytes = 0;       // for the whole process; 0: there is none
  uint64_t nccl_bytes = 0;  // of it, kept free for when GPUs meet
};

// What the plan may use: of the budget for the whole process, or of the device without one, what is
// left beside that which is taken there by now. Everything that is not free counts as taken by this
// process, since a device does not tell whose it is: beside other programs less is offered than
// could be, never more. kResourceExhausted names the device, the budget and what is needed where
// nothing is left.
//
// Of a budget, what the pieces of a stage take beyond themselves is left out, too: where a device
// gives memory in blocks, as one piece tells that is taken for that and given back.
Result<uint64_t> MemoryToOffer(kernels::Device& device, const DeviceBudget& budget);

// For people, once a plan is loaded: what the process holds of a device, of what it may.
struct DeviceHoldings {
  uint64_t budget_bytes = 0;  // 0: the whole device
  uint64_t graph_bytes = 0;   // kept free for graphs
  uint64_t nccl_bytes = 0;    // and for when GPUs meet
};
std::string HoldingsText(const kernels::Device& device, const DeviceHoldings& holdings);

}  // namespace thermocline::worker
