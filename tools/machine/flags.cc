#include "tools/machine/flags.h"

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/str.h"
#include "base/thread_pool.h"
#include "base/units.h"

namespace thermocline::tools {
namespace {

// As a worker takes it by default: the rest is for the system.
constexpr uint64_t kMemoryPercent = 90;
// Nobody waits longer for figures that a minute later are a little different.
constexpr double kMaxSeconds = 60;

}  // namespace

Result<MachineOptions> ParseMachineFlags(const MachineFlags& flags) {
  MachineOptions options;
  if (flags.n_threads < 0 || flags.n_threads > ThreadPool::kMaxThreads) {
    return InvalidArgument(Str("--threads out of range:", Kv("threads", flags.n_threads),
                               Kv("max", ThreadPool::kMaxThreads)));
  }
  if (!(flags.seconds >= 0 && flags.seconds <= kMaxSeconds)) {
    return InvalidArgument(
        Str("--seconds out of range:", Kv("seconds", flags.seconds), Kv("max", kMaxSeconds)));
  }
  auto device = kernels::ParseDeviceChoice(flags.device);
  if (!device.ok()) return device.status().WithContext("--device");
  options.device = *device;
  const auto rows = model::ParseNeuronRows(flags.gpu_rows);
  if (!rows.ok()) return rows.status().WithContext("--gpu-rows");
  options.neuron_rows = *rows;
  auto cpus = ParseCpuList(flags.cpus);
  if (!cpus.ok()) return cpus.status().WithContext("--cpus");
  options.cpus = *std::move(cpus);
  TC_ASSIGN_OR_RETURN(options.n_threads, ThreadsOn(options.cpus, flags.n_threads));
  options.seconds = flags.seconds;
  options.memory_bytes = AvailableMemoryBytes() / 100 * kMemoryPercent;
  if (flags.memory.empty()) return options;
  auto memory = ParseBytes(flags.memory);
  if (!memory.ok()) return memory.status().WithContext("--memory");
  options.memory_bytes = *memory;
  return options;
}

}  // namespace thermocline::tools
