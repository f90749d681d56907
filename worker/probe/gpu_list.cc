#include "worker/probe/gpu_list.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <optional>
#include <utility>

#include "worker/probe/nvml.h"

namespace thermocline::worker {
namespace {

using placement::GpuInfo;
using placement::GpuPeer;

struct FoundGpu {
  NvmlDevice device = nullptr;
  PciPlace place;
  std::vector<NvlinkEnd> nvlinks;
  GpuInfo info;
};

std::vector<FoundGpu> FindGpus(const Nvml& nvml) {
  std::vector<FoundGpu> found;
  for (const NvmlDevice device : nvml.Devices()) {
    FoundGpu gpu{.device = device};
    if (!nvml.Describe(device, &gpu.info, &gpu.place)) continue;
    gpu.nvlinks = nvml.Nvlinks(device);
    found.push_back(std::move(gpu));
  }
  return found;
}

int LinksToSwitches(const FoundGpu& gpu) {
  return static_cast<int>(std::count_if(gpu.nvlinks.begin(), gpu.nvlinks.end(),
                                        [](const NvlinkEnd& end) { return end.is_switch; }));
}

// Those that end at the other one, and those through switches, which join all GPUs of a host.
int LinksBetween(const FoundGpu& a, const FoundGpu& b) {
  const auto direct = std::count_if(a.nvlinks.begin(), a.nvlinks.end(), [&](const NvlinkEnd& end) {
    return !end.is_switch && end.place == b.place;
  });
  return static_cast<int>(direct) + std::min(LinksToSwitches(a), LinksToSwitches(b));
}

// "0000:1b:00.0" as numbers; nothing when it is no such place.
std::optional<std::array<unsigned, 4>> PlaceOf(std::string_view pci_bus_id) {
  std::array<unsigned, 4> place{};
  constexpr std::string_view kEnds = "::.";
  for (size_t i = 0; i < place.size(); ++i) {
    const char* const end = pci_bus_id.data() + pci_bus_id.size();
    const auto [rest, error] = std::from_chars(pci_bus_id.data(), end, place[i], 16);
    if (error != std::errc()) return std::nullopt;
    pci_bus_id.remove_prefix(static_cast<size_t>(rest - pci_bus_id.data()));
    if (i == kEnds.size()) break;
    if (pci_bus_id.empty() || pci_bus_id.front() != kEnds[i]) return std::nullopt;
    pci_bus_id.remove_prefix(1);
  }
  return pci_bus_id.empty() ? std::optional(place) : std::nullopt;
}

}  // namespace

int FindGpuAt(const std::vector<GpuInfo>& gpus, std::string_view pci_bus_id) {
  const auto wanted = PlaceOf(pci_bus_id);
  if (!wanted) return -1;
  for (size_t i = 0; i < gpus.size(); ++i) {
    if (PlaceOf(gpus[i].pci_bus_id) == wanted) return static_cast<int>(i);
  }
  return -1;
}

void NameGpus(std::vector<GpuInfo> gpus, std::string_view pci_bus_id, const kernels::Device& device,
              placement::WorkerProfile* profile) {
  profile->gpus = std::move(gpus);
  profile->gpu = FindGpuAt(profile->gpus, pci_bus_id);
  if (device.reads_host_memory() || !profile->gpus.empty()) return;
  GpuInfo own;
  own.name = device.name();
  own.pci_bus_id = pci_bus_id;
  own.memory_bytes = device.memory().total_bytes;
  profile->gpus.push_back(own);
  profile->gpu = 0;
}

Result<std::vector<GpuInfo>> ListGpus(const std::string& library) {
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Nvml> nvml, Nvml::Load(library));
  const std::vector<FoundGpu> found = FindGpus(*nvml);
  std::vector<GpuInfo> gpus;
  for (const FoundGpu& gpu : found) {
    gpus.push_back(gpu.info);
    for (size_t i = 0; i < found.size(); ++i) {
      if (&found[i] == &gpu) continue;
      gpus.back().peers.push_back({.gpu = static_cast<int>(i),
                                   .path = nvml->PathBetween(gpu.device, found[i].device),
                                   .n_nvlinks = LinksBetween(gpu, found[i])});
    }
  }
  return gpus;
}

}  // namespace thermocline::worker
