#include "tools/machine/gpu_text.h"

#include <utility>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "tools/table.h"

namespace thermocline::tools {
namespace {

using placement::GpuInfo;
using placement::GpuPath;
using placement::GpuPeer;

std::string Nvlinks(int n, int generation) {
  const std::string version = generation > 0 ? Str(" ", generation) : "";
  return Str(n, " x NVLink", version);
}

std::string GpuLine(size_t index, const GpuInfo& gpu) {
  std::string text =
      Str("gpu ", index, " at ", Printable(gpu.pci_bus_id), ": ", Printable(gpu.name), ", ",
          FormatBytes(gpu.memory_bytes), ", ", FormatBytes(gpu.free_bytes), " free");
  if (gpu.compute_capability > 0) {
    text +=
        Str(", compute capability ", gpu.compute_capability / 10, ".", gpu.compute_capability % 10);
  }
  if (gpu.pcie_generation > 0) text += Str(", PCIe ", gpu.pcie_generation);
  if (gpu.pcie_lanes > 0) text += Str(" x", gpu.pcie_lanes);
  if (gpu.n_nvlinks > 0) text += Str(", ", Nvlinks(gpu.n_nvlinks, gpu.nvlink_generation));
  if (gpu.numa_node >= 0) text += Str(", NUMA node ", gpu.numa_node);
  if (!gpu.cpus.empty()) text += Str(", CPUs ", Printable(gpu.cpus));
  return text + "\n";
}

std::string PathWords(GpuPath path) {
  switch (path) {
    case GpuPath::kSameBoard:
      return "same board";
    case GpuPath::kPcieSwitch:
      return "same PCIe switch";
    case GpuPath::kPcieSwitches:
      return "PCIe switches";
    case GpuPath::kHostBridge:
      return "same host bridge";
    case GpuPath::kNumaNode:
      return "same NUMA node";
    case GpuPath::kSystem:
      return "across NUMA nodes";
    case GpuPath::kUnknown:
      break;
  }
  return "not told";
}

std::string Cell(const GpuInfo& gpu, int other) {
  for (const GpuPeer& peer : gpu.peers) {
    if (peer.gpu != other) continue;
    std::string text =
        peer.n_nvlinks > 0 ? Nvlinks(peer.n_nvlinks, gpu.nvlink_generation) : PathWords(peer.path);
    if (peer.bytes_per_s.known()) {
      text += Str(", ", FixedPoint(peer.bytes_per_s.value / 1e9, 0), " GB/s ",
                  OriginName(peer.bytes_per_s.origin));
    }
    return text;
  }
  return "not told";
}

std::string Matrix(std::span<const GpuInfo> gpus) {
  std::vector<TableColumn> columns = {{"", Align::kLeft}};
  for (size_t i = 0; i < gpus.size(); ++i) columns.push_back({Str("gpu ", i), Align::kLeft});
  Table table(std::move(columns));
  for (size_t i = 0; i < gpus.size(); ++i) {
    std::vector<std::string> row = {Str("gpu ", i)};
    for (size_t other = 0; other < gpus.size(); ++other) {
      row.push_back(i == other ? "-" : Cell(gpus[i], static_cast<int>(other)));
    }
    table.AddRow(std::move(row));
  }
  return Str("\nwhat lies between GPUs\n", table.Markdown());
}

}  // namespace

std::string GpuText(std::span<const GpuInfo> gpus) {
  std::string text;
  for (size_t i = 0; i < gpus.size(); ++i) text += GpuLine(i, gpus[i]);
  if (!gpus.empty() && !gpus.front().driver.empty()) {
    text += Str("NVIDIA driver ", Printable(gpus.front().driver), "\n");
  }
  return gpus.size() < 2 ? text : text + Matrix(gpus);
}

}  // namespace thermocline::tools
