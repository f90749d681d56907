// The GPUs of this machine, as NVIDIA's management library (NVML) tells. The library comes with the
// driver and is loaded at run time: a build needs nothing of it, and a machine without it has no
// GPUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace thermocline::worker {

struct GpuInfo {
  std::string name;        // "NVIDIA H100 80GB HBM3"
  std::string pci_bus_id;  // "00000000:1B:00.0"
  uint64_t memory_bytes = 0;
  uint64_t free_bytes = 0;
  int pcie_generation = 0;  // the most that GPU and slot can do; 0: not told
  int pcie_lanes = 0;
  int n_nvlinks = 0;  // that are up
  friend bool operator==(const GpuInfo&, const GpuInfo&) = default;
};

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

// Takes some 10 ms where there is a driver. kNotFound without the library, kUnavailable when it
// cannot start or lacks a function, both with the reason; a GPU that does not answer is left out.
Result<std::vector<GpuInfo>> ListGpus(const std::string& library = kNvmlLibrary);

}  // namespace thermocline::worker
