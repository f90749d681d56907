// The way between the host and a device with memory of its own, as a probe of a link goes it.
#pragma once

#include <cstdint>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// What is sent and received takes this way too, so it is a part of what a link costs. Owns a buffer
// at each end, which it makes once and keeps: its owner makes many probes. One thread at a time,
// that which works with the device.
class DeviceHop {
 public:
  // Room for n_bytes; what is larger goes in turns. `device` outlives it.
  DeviceHop(kernels::Device& device, uint64_t n_bytes) : device_(&device), n_bytes_(n_bytes) {}

  // Makes the buffers unless they are there. kResourceExhausted without memory for them.
  Status Prepare();
  // From the device to the host, and back, after Prepare; at least a value. Returns when it is
  // done. kUnavailable when the device is lost.
  Status Out(uint64_t n_bytes);
  Status In(uint64_t n_bytes);

 private:
  uint64_t Turn(uint64_t n_left) const;

  kernels::Device* device_;
  uint64_t n_bytes_;
  Buffer on_device_, on_host_;
};

}  // namespace thermocline::worker
