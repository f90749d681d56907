// NVIDIA's management library, loaded at run time; what it answers is checked here.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "placement/profile.h"
#include "worker/probe/nvml_abi.h"

namespace thermocline::worker {

// The place of a device on the host's buses.
struct PciPlace {
  unsigned domain = 0, bus = 0, device = 0;
  friend bool operator==(const PciPlace&, const PciPlace&) = default;
};

// What is at the other end of an NVLink that is up.
struct NvlinkEnd {
  bool is_switch = false;
  PciPlace place;
};

// Owns the loaded and started library. One thread.
class Nvml {
 public:
  // kNotFound without the library; kUnavailable when it lacks a function or does not start.
  static Result<std::unique_ptr<Nvml>> Load(const std::string& path);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::vector<NvmlDevice> Devices() const;
  // All of a GPU but its peers, and where it is; false when it does not answer.
  bool Describe(NvmlDevice device, placement::GpuInfo* gpu, PciPlace* place) const;
  std::vector<NvlinkEnd> Nvlinks(NvmlDevice device) const;
  placement::GpuPath PathBetween(NvmlDevice a, NvmlDevice b) const;

 private:
  struct CloseLibrary {
    void operator()(void* library) const;
  };

  Nvml() = default;
  Status FindAll();
  template <typename Fn>
  Status Find(const char* name, Fn** function);
  std::string Driver() const;
  std::string CpusOf(NvmlDevice device) const;
  int NumaNodeOf(NvmlDevice device) const;

  std::unique_ptr<void, CloseLibrary> library_;
  bool started_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*count_)(unsigned*) = nullptr;
  int (*handle_)(unsigned, NvmlDevice*) = nullptr;
  int (*name_)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*pci_)(NvmlDevice, NvmlPciInfo*) = nullptr;
  // What follows may be null: then it is not told.
  int (*driver_)(char*, unsigned) = nullptr;
  int (*capability_)(NvmlDevice, int*, int*) = nullptr;
  int (*pcie_generation_)(NvmlDevice, unsigned*) = nullptr;
  int (*pcie_lanes_)(NvmlDevice, unsigned*) = nullptr;
  int (*nvlink_state_)(NvmlDevice, unsigned, int*) = nullptr;
  int (*nvlink_remote_)(NvmlDevice, unsigned, NvmlPciInfo*) = nullptr;
  int (*nvlink_remote_type_)(NvmlDevice, unsigned, int*) = nullptr;
  int (*common_ancestor_)(NvmlDevice, NvmlDevice, int*) = nullptr;
  int (*cpu_affinity_)(NvmlDevice, unsigned, unsigned long*) = nullptr;
  int (*memory_affinity_)(NvmlDevice, unsigned, unsigned long*, unsigned) = nullptr;
};

}  // namespace thermocline::worker
