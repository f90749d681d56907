// By what a worker's GPU reaches other GPUs: its driver and NCCL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "comm/gpu.h"
#include "comm/nccl_library.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Of a member's card for its group, which NCCL takes when members meet: a ring has two connections,
// each with buffers of 5 MiB for up to 24 channels (NVIDIA's documentation of NCCL_BUFFSIZE and of
// protocols). Assumed, not measured.
inline constexpr uint64_t kGroupMemoryBytes = uint64_t{256} << 20;

// Owned by the worker's process, for as long as it lives; on a CPU there is neither.
struct GpuWays {
  std::unique_ptr<comm::Gpu> gpu;
  std::unique_ptr<comm::NcclLibrary> nccl;  // null: GPUs reach each other by way of the host

  // Where a group that this worker leads can meet; "" when there is no NCCL, or it cannot make one,
  // which is logged.
  std::string MakeId() const;
};

// Of the GPU of that number. Where NCCL is missing, whose loading says why, one line tells it.
// `driver` is for tests.
GpuWays OpenGpuWays(int ordinal, Result<std::unique_ptr<comm::NcclLibrary>> nccl,
                    const std::string& driver = comm::kCudaLibrary);

// kUnavailable when a member of a group cannot be one by these, which may be null, on that device.
Status CheckWays(const GpuWays* ways, const kernels::Device& device);

}  // namespace thermocline::worker
