#include "worker/gpu_ways.h"

#include <utility>

#include "base/log.h"
#include "base/str.h"

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
    LogInfo("worker", Str("sums of GPUs go by way of the host: ", why.message()));
  }
  return ways;
}

std::string GpuWays::MakeId() const {
  if (nccl == nullptr) return "";
  auto id = nccl->MakeId();
  if (id.ok()) return *std::move(id);
  LogWarn("worker", Str("this worker leads no group of GPUs: ", id.status()));
  return "";
}

Status CheckWays(const GpuWays* ways, const kernels::Device& device) {
  if (ways != nullptr && ways->nccl != nullptr && device.stream() != nullptr) return OkStatus();
  return Unavailable(Str("plan with a group of GPUs for a worker that cannot be in one:",
                         Kv("device", device.name())));
}

}  // namespace thermocline::worker
