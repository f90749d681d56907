// By what a worker's GPU reaches other GPUs: its driver and NCCL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "comm/gpu.h"
#include "comm/nccl_library.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Of a card, kept free for what NCCL and links between GPUs take of it when they meet, which is
// after the plan: this is the one place that says how much. A ring has two connections, each with
// buffers of 5 MiB for up to 24 channels (NVIDIA's documentation of NCCL_BUFFSIZE and of
// protocols); a link's slots are 16 MiB. Assumed, not measured: MeetingMemory tells what it was.
inline constexpr uint64_t kNcclMemoryBytes = uint64_t{256} << 20;

// How long GPUs wait for each other's first word: as long as their workers may load, which the
// coordinator watches; whoever of them fails ends the others' wait before.
inline constexpr Duration kGpusMeetTimeout = std::chrono::minutes(30);

// Looks at the memory of a card before GPUs meet, and tells afterwards in one line what that took;
// a warning where it is more than is kept free. The device outlives it.
class MeetingMemory {
 public:
  explicit MeetingMemory(const kernels::Device& device);
  void Tell() const;

 private:
  const kernels::Device& device_;
  const uint64_t free_before_bytes_;
};

// Owned by the worker's process, for as long as it lives; on a CPU there is neither.
struct GpuWays {
  std::unique_ptr<comm::Gpu> gpu;
  std::unique_ptr<comm::NcclLibrary> nccl;  // null: GPUs reach each other by way of the host
  bool one_host = true;                     // no worker is on another
  // Between stages, too, where the way by the host is found to be faster.
  bool always_nccl = false;

  // Where a group that this worker leads, or its GPU and the next stage's, can meet; "" when there
  // is no NCCL, or it cannot make one, which is logged.
  std::string MakeId() const;
};

// Of the GPU of that number. Where NCCL is missing, whose loading says why, one line tells it.
// `driver` is for tests.
GpuWays OpenGpuWays(int ordinal, Result<std::unique_ptr<comm::NcclLibrary>> nccl,
                    const std::string& driver = comm::kCudaLibrary);

// kUnavailable when a member of a group cannot be one by these, which may be null, on that device.
Status CheckWays(const GpuWays* ways, const kernels::Device& device);

}  // namespace thermocline::worker
