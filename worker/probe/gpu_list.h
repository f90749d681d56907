// The GPUs of this machine, as NVIDIA's management library (NVML) tells. The library comes with the
// driver and is loaded at run time: a build needs nothing of it, and a machine without it has no
// GPUs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "placement/profile.h"

namespace thermocline::worker {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

// What they are and how they reach each other; nothing is measured. Takes some 10 ms where there is
// a driver. kNotFound without the library, kUnavailable when it cannot start or lacks a function,
// both with the reason; a GPU that does not answer is left out, and numbers that no GPU can have
// are not told.
Result<std::vector<placement::GpuInfo>> ListGpus(const std::string& library = kNvmlLibrary);

// Which of them sits there; -1: none. NVML and CUDA write a place differently: the domain has eight
// digits or four, in capital letters or small ones.
int FindGpuAt(const std::vector<placement::GpuInfo>& gpus, std::string_view pci_bus_id);

// The host's GPUs, and which of them `device` is, when it has memory of its own: the one that sits
// there or, where the list is empty, itself, of which then no more is known than it tells.
void NameGpus(std::vector<placement::GpuInfo> gpus, std::string_view pci_bus_id,
              const kernels::Device& device, placement::WorkerProfile* profile);

}  // namespace thermocline::worker
