#include "worker/device_memory.h"

#include <algorithm>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Without a budget: of what is free, the rest is for what is lost between pieces of memory.
constexpr uint64_t kFreePercent = 95;

}  // namespace

Result<uint64_t> MemoryToOffer(const kernels::Device& device, uint64_t budget_bytes) {
  const kernels::DeviceMemory memory = device.memory();
  if (budget_bytes == 0) return memory.free_bytes / 100 * kFreePercent;
  const uint64_t taken = memory.total_bytes - memory.free_bytes;
  if (budget_bytes <= taken) {
    return ResourceExhausted(Str("--gpu-memory leaves nothing on ", device.name(), ":",
                                 Kv("budget", FormatBytes(budget_bytes)),
                                 Kv("taken", FormatBytes(taken)),
                                 Kv("total", FormatBytes(memory.total_bytes))));
  }
  return std::min(budget_bytes - taken, memory.free_bytes);
}

}  // namespace thermocline::worker
