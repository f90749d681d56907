#include "tools/machine/run.h"

#include <cstdio>
#include <fstream>
#include <string>

#include "base/log.h"
#include "base/str.h"
#include "base/units.h"
#include "comm/gpu.h"
#include "kernels/device.h"
#include "placement/card_way.h"
#include "placement/cluster_yaml.h"
#include "placement/link_preset.h"
#include "tools/machine/gpu_text.h"
#include "tools/machine/machine_info.h"
#include "tools/table.h"
#include "worker/device_memory.h"
#include "worker/device_rows.h"
#include "worker/probe/device_copy_probe.h"
#include "worker/profiler.h"

namespace thermocline::tools {
namespace {

using placement::WeightRate;
using placement::WeightUse;
using placement::WorkerProfile;

std::string Gigas(const placement::Figure& figure) {
  return figure.known() ? FixedPoint(figure.value / 1e9, 1) : "unknown";
}

std::string WeightRateOf(const WorkerProfile& worker, WeightUse use, DType dtype, bool all,
                         int n_tokens) {
  for (const WeightRate& rate : worker.weight_rates) {
    if (rate.use == use && rate.dtype == dtype && (rate.row_share == 1) == all &&
        rate.n_tokens == n_tokens) {
      return Gigas(rate.bytes_per_s);
    }
  }
  return "";
}

std::string ComputeRateOf(const WorkerProfile& worker, DType dtype, int n_tokens) {
  for (const placement::ComputeRate& rate : worker.compute_rates) {
    if (rate.dtype == dtype && rate.n_tokens == n_tokens) return Gigas(rate.flops_per_s);
  }
  return "";
}

std::string Head(const WorkerProfile& worker, const std::string& device) {
  std::string text =
      Str(worker.host, ": ", CpuName(), ", ", worker.n_cores, " cores in ", worker.n_numa_nodes,
          worker.n_numa_nodes == 1 ? " NUMA node, " : " NUMA nodes, ", device, "; memory to use ",
          FormatBytes(worker.memory_bytes), worker.huge_pages ? ", on huge pages" : "",
          "\nreads at ", Gigas(worker.read_bytes_per_s), " GB/s, a tenth of F16 rows at ",
          Gigas(worker.gather_bytes_per_s), " GB/s; an op takes at least ",
          FixedPoint(worker.op_overhead_s.value * 1e6, 1), " us\n");
  for (const placement::ReadRate& rate : worker.read_rates) {
    text +=
        Str("  ", rate.n_threads,
            rate.n_threads == 1 ? " thread: " : " threads: ", Gigas(rate.bytes_per_s), " GB/s\n");
  }
  return text;
}

std::string TypeTable(const WorkerProfile& worker) {
  Table table({{"type", Align::kLeft},
               {"matmul"},
               {"of 4 tokens"},
               {"tenth of neurons"},
               {"of 4 tokens"},
               {"added rows"},
               {"of 4 tokens"},
               {"GFLOP/s"},
               {"of 64 tokens"}});
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    const auto rate = [&](WeightUse use, int n_tokens) {
      return WeightRateOf(worker, use, dtype, use == WeightUse::kMatMul, n_tokens);
    };
    if (rate(WeightUse::kMatMul, 1).empty()) continue;
    table.AddRow({std::string(DTypeName(dtype)), rate(WeightUse::kMatMul, 1),
                  rate(WeightUse::kMatMul, 4), rate(WeightUse::kNeurons, 1),
                  rate(WeightUse::kNeurons, 4), rate(WeightUse::kAxpyRows, 1),
                  rate(WeightUse::kAxpyRows, 4), ComputeRateOf(worker, dtype, 1),
                  ComputeRateOf(worker, dtype, 64)});
  }
  return table.Markdown();
}

// Of a device with memory of its own: what the GB/s of its ops are measured against.
Result<std::string> CopyingText(kernels::Device& device) {
  if (device.reads_host_memory()) return std::string();
  TC_ASSIGN_OR_RETURN(worker::DeviceCopyProbe probe, worker::DeviceCopyProbe::Create(device));
  TC_ASSIGN_OR_RETURN(const double bytes_per_s, probe.BytesPerS());
  return Str("copying within the device: ", FixedPoint(bytes_per_s / 1e9, 1),
             " GB/s read and written\n");
}

// Where the GPU that computes sits; "" without one, or where its driver does not say.
std::string PlaceOf(const kernels::Device& device, const kernels::DeviceChoice& choice) {
  if (device.reads_host_memory()) return "";
  const auto gpu = comm::Gpu::Open(choice.ordinal);
  return gpu.ok() ? (*gpu)->pci_bus_id() : "";
}

// What was measured of the bus between the host and the GPU that computes.
std::string BusText(const WorkerProfile& worker) {
  const placement::GpuInfo* const gpu = placement::CardOf(worker);
  if (gpu == nullptr) return "";
  return Str("copies: ", Gigas(gpu->upload_bytes_per_s), " GB/s from the host, ",
             Gigas(gpu->download_bytes_per_s), " GB/s to it, a small one ",
             FixedPoint(gpu->copy_s.value * 1e6, 1), " us\n");
}

Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  return file ? OkStatus() : Unavailable(Str("cannot write ", path));
}

}  // namespace

Status RunMachine(const MachineFlags& flags) {
  TC_ASSIGN_OR_RETURN(const MachineOptions options, ParseMachineFlags(flags));
  TC_RETURN_IF_ERROR(kernels::UseInstructionSet(flags.isa).WithContext("--isa"));
  TC_ASSIGN_OR_RETURN(const auto chosen,
                      kernels::MakeDevice(options.device, {options.n_threads, options.cpus}));
  const auto& device = chosen.device;
  if (!chosen.note.empty()) LogInfo("tools", chosen.note);
  const worker::DeviceRows rows = worker::RowsOn(*device, options.neuron_rows);
  if (!rows.note.empty()) LogInfo("tools", rows.note);
  TC_ASSIGN_OR_RETURN(
      WorkerProfile worker,
      worker::MeasureWorker(*device, {.n_threads = options.n_threads,
                                      .cpus = options.cpus,
                                      .memory_bytes = options.memory_bytes,
                                      .pci_bus_id = PlaceOf(*device, options.device),
                                      .rows = rows.rows,
                                      .time = std::chrono::duration_cast<Duration>(
                                          std::chrono::duration<double>(options.seconds))}));
  TC_ASSIGN_OR_RETURN(const std::string copying, CopyingText(*device));
  worker.id = {1};
  worker.neuron_rows = rows.rows;
  if (!device->reads_host_memory()) {
    TC_ASSIGN_OR_RETURN(worker.memory_bytes, worker::MemoryToOffer(*device, {}));
  }
  placement::FillGpus(&worker);
  const std::string yaml = placement::ClusterToYaml({.workers = {worker}, .links = {}});
  if (flags.save_cluster == "-") {
    std::fputs(yaml.c_str(), stdout);
    return OkStatus();
  }
  const std::string table =
      Str(Head(worker, device->name()), copying, BusText(worker), GpuText(worker.gpus),
          "\nGB/s of weights that come from memory, by op; GFLOP/s with weights in a cache\n",
          TypeTable(worker));
  std::fputs(table.c_str(), stdout);
  return flags.save_cluster.empty() ? OkStatus() : WriteText(flags.save_cluster, yaml);
}

}  // namespace thermocline::tools
