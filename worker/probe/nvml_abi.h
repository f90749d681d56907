// What of NVML's C interface gpu_list needs: declarations of our own, after the documentation of
// its API (docs.nvidia.com, "NVML API Reference Guide"). Its calls return 0 for success.
#pragma once

namespace thermocline::worker {

using NvmlDevice = void*;

struct NvmlMemory {
  unsigned long long total, free, used;
};

// Version 3: the last field is the one to use, the first is kept by NVML for old programs.
struct NvmlPciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};

// The lowest common ancestor of two GPUs.
enum NvmlTopologyLevel : int {
  kNvmlInternal = 0,
  kNvmlSingle = 10,
  kNvmlMultiple = 20,
  kNvmlHostBridge = 30,
  kNvmlNode = 40,
  kNvmlSystem = 50,
};

// What an NVLink leads to.
enum NvmlNvlinkRemote : int { kNvmlRemoteGpu = 0, kNvmlRemoteSwitch = 2 };

// Nearness of memory is asked by NUMA node, not by socket.
inline constexpr unsigned kNvmlScopeNode = 0;

}  // namespace thermocline::worker
