// Stands for worker/profiler.cc in that program: on an emulator measurements would take minutes,
// and plans would give such cards nothing. Cards are as fast as real ones here, and CPUs so slow
// that plans give cards what they have room for, however slow the links are that are measured.
#include "base/host_info.h"
#include "worker/probe/gpu_list.h"
#include "worker/probe/op_warmup.h"
#include "worker/profiler.h"

namespace thermocline::worker {
namespace {

using placement::Figure;
using placement::WeightUse;

constexpr double kGpuBytesPerS = 3e12, kCpuBytesPerS = 1e6;
constexpr double kGpuFlopsPerS = 3e13, kCpuFlopsPerS = 1e7;
constexpr double kOpSeconds = 3e-6;
// Between the card and the host's memory: PCIe 5 x16, and a wait for a copy.
constexpr double kCopyBytesPerS = 5e10, kCopySeconds = 1e-5;

}  // namespace

Result<placement::WorkerProfile> MeasureWorker(kernels::Device& device,
                                               const ProfilerOptions& options) {
  const bool is_gpu = !device.reads_host_memory();
  // As the real one, which has the device take what it takes.
  if (is_gpu) TC_RETURN_IF_ERROR(RunEveryOp(device, kFileWeightTypes));
  const Figure rate = Figure::Measured(is_gpu ? kGpuBytesPerS : kCpuBytesPerS);
  placement::WorkerProfile profile;
  profile.host = HostName();
  profile.n_threads = profile.n_cores = options.n_threads;
  profile.memory_bytes = options.memory_bytes;
  auto gpus = ListGpus();
  NameGpus(gpus.ok() ? *std::move(gpus) : std::vector<placement::GpuInfo>{}, options.pci_bus_id,
           device, &profile);
  if (profile.gpu >= 0) {
    placement::GpuInfo& gpu = profile.gpus[static_cast<size_t>(profile.gpu)];
    gpu.read_bytes_per_s = rate;
    gpu.upload_bytes_per_s = gpu.download_bytes_per_s = Figure::Measured(kCopyBytesPerS);
    gpu.copy_s = Figure::Measured(kCopySeconds);
  }
  profile.read_bytes_per_s = profile.gather_bytes_per_s = rate;
  profile.read_rates = {{options.n_threads, rate}};
  profile.op_overhead_s = Figure::Measured(kOpSeconds);
  for (const DType dtype : kFileWeightTypes) {
    for (const WeightUse use : {WeightUse::kMatMul, WeightUse::kNeurons, WeightUse::kAxpyRows}) {
      profile.weight_rates.push_back({.use = use, .dtype = dtype, .bytes_per_s = rate});
    }
    profile.compute_rates.push_back(
        {.dtype = dtype, .flops_per_s = Figure::Measured(is_gpu ? kGpuFlopsPerS : kCpuFlopsPerS)});
  }
  return profile;
}

}  // namespace thermocline::worker
