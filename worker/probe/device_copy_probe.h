// How fast a device with memory of its own copies within it: what its ops are measured against.
#pragma once

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Owns two pieces of the device's memory, which outlives it. Thread-compatible, as the device is.
class DeviceCopyProbe {
 public:
  // kResourceExhausted without memory.
  static Result<DeviceCopyProbe> Create(kernels::Device& device);
  // Bytes read and written per second, of several copies that follow one another. kUnavailable when
  // the device is lost.
  Result<double> BytesPerS();

 private:
  explicit DeviceCopyProbe(kernels::Device& device) : device_(&device) {}

  kernels::Device* device_;
  Buffer from_, to_;
};

}  // namespace thermocline::worker
