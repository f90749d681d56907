// Which of the workers of a host takes which GPU, where a launcher has started several and nobody
// has said.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device_choice.h"

namespace thermocline::worker {

// A name that one process of this host (of its network namespace: containers have their own) has at
// a time, until it ends, however it does: an abstract socket of Linux, which leaves no file behind.
// Move-only. Thread-compatible.
class DeviceClaim {
 public:
  DeviceClaim(DeviceClaim&& other) noexcept;
  DeviceClaim& operator=(DeviceClaim&&) = delete;
  ~DeviceClaim();
  // kUnavailable when another process, or another claim of this one, has it, or the system refuses.
  static Result<DeviceClaim> Take(const std::string& name);

 private:
  explicit DeviceClaim(int fd) : fd_(fd) {}
  int fd_ = -1;
};

// Of the worker `index` of a host: the ordinals that it tries among n_visible GPUs, in order. Its
// own where it sees as many; else the launcher has shown it some of its own, maybe the same as
// others, maybe not, and it takes the first that none has claimed.
std::vector<int> OrdinalsToTry(int index, int n_visible);

struct ClaimedDevice {
  kernels::ChosenDevice chosen;
  std::optional<DeviceClaim> claim;  // kept for as long as the device
  int ordinal = 0;                   // of a GPU, as this process sees it
};

// As kernels::MakeDevice, for worker `choice.ordinal` of a host's: GPUs are told apart by what they
// are called for life (their UUID), not by the numbers that each process sees. Auto computes on the
// CPU when none is left, and says so; kUnavailable for kCuda.
Result<ClaimedDevice> ClaimDevice(kernels::DeviceChoice choice,
                                  const kernels::CpuDeviceOptions& cpu);

}  // namespace thermocline::worker
