// What devices have in common whose memory is the host's: everything is done when its call returns.
#pragma once

#include <cstring>

#include "kernels/device.h"

namespace thermocline::kernels {

// The base of such devices; owned as they are. Thread-compatible.
class HostDevice : public Device {
 public:
  Result<Buffer> Allocate(uint64_t n_bytes) override { return Buffer::Allocate(n_bytes); }
  Result<Buffer> AllocateHost(uint64_t n_bytes) override { return Buffer::Allocate(n_bytes); }
  DeviceMemory memory() const override { return {}; }
  Status Prepare(const StepBounds&) override { return OkStatus(); }
  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(device, host, n_bytes);
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(host, device, n_bytes);
  }
  void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(to, from, n_bytes);
  }
  WorkMark Mark() override { return 0; }
  bool IsDone(WorkMark) override { return true; }
  Status Wait(WorkMark) override { return OkStatus(); }
  bool reads_host_memory() const override { return true; }
};

}  // namespace thermocline::kernels
