// The CUDA backend over any runtime.
#pragma once

#include <memory>

#include "base/status.h"
#include "kernels/cuda/runtime.h"
#include "kernels/device.h"

namespace thermocline::kernels::cuda {

// kUnavailable for a card without kernels, or one that has failed by now, kResourceExhausted when
// there is no memory for the device's own buffers.
Result<std::unique_ptr<Device>> MakeDevice(std::unique_ptr<Runtime> runtime);

}  // namespace thermocline::kernels::cuda
