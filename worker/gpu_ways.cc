#include "worker/gpu_ways.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {

GpuWays OpenGpuWays(int ordinal, Result<std::unique_ptr<comm::NcclLibrary>> nccl,
                    const std::string& driver) {
  auto gpu = comm::Gpu::Open(ordinal, driver);
  const Status& why = nccl.ok() ? gpu.status() : nccl.status();
  GpuWays ways;
  if (gpu.ok()) ways.gpu = *std::move(gpu);
  if (why.ok()) {
    ways.nccl = *std::move(nccl);
  } else {
    LogInfo("worker", Str("values of GPUs go by way of the host: ", why.message()));
  }
  return ways;
}

std::string GpuWays::MakeId() const {
  if (nccl == nullptr) return "";
  auto id = nccl->MakeId();
  if (id.ok()) return *std::move(id);
  LogWarn("worker", Str("this worker's GPU meets no others: ", id.status()));
  return "";
}

MeetingMemory::MeetingMemory(const kernels::Device& device)
    : device_(device), free_before_bytes_(device.memory().free_bytes) {}

void MeetingMemory::Tell() const {
  const uint64_t free_bytes = device_.memory().free_bytes;
  const uint64_t taken = free_before_bytes_ - std::min(free_before_bytes_, free_bytes);
  const std::string text =
      Str("what ", device_.name(), " shares with other GPUs takes ", FormatBytes(taken),
          " of its memory, ", FormatBytes(kNcclMemoryBytes), " are kept free for it");
  taken > kNcclMemoryBytes ? LogWarn("worker", text) : LogInfo("worker", text);
}

Status CheckWays(const GpuWays* ways, const kernels::Device& device) {
  if (ways != nullptr && ways->nccl != nullptr && device.stream() != nullptr) return OkStatus();
  return Unavailable(
      Str("plan with NCCL for a worker that has none:", Kv("device", device.name())));
}

}  // namespace thermocline::worker
