// Every op of a device, run once before its memory is counted.
#pragma once

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Runs each op on a few rows, for every type of weights and of keys and values: a GPU takes memory
// of its own when a kernel is first met, for its code and its threads' stacks. Returns the first
// error of the device, with its name: kResourceExhausted or kUnavailable.
Status RunEveryOp(kernels::Device& device);

}  // namespace thermocline::worker
