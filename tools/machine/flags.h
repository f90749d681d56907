// The settings of `thermocline machine` as people give them, and checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device_choice.h"
#include "model/neuron_rows.h"

namespace thermocline::tools {

struct MachineFlags {
  int n_threads = 0;               // 0: one per CPU of `cpus`, or per allowed CPU
  std::string cpus;                // "0-3,8"; "" = wherever the system puts the threads
  std::string device = "auto";     // see kernels::ParseDeviceChoice
  std::string gpu_rows = "as-is";  // see model::NeuronRows
  std::string isa = "auto";
  std::string memory;        // "": nine tenths of what is available
  double seconds = 0.45;     // of all measurements
  std::string save_cluster;  // a file, or "-" for stdout; "": a table
};

struct MachineOptions {
  kernels::DeviceChoice device;
  model::NeuronRows neuron_rows = model::NeuronRows::kAsIs;
  int n_threads = 1;
  std::vector<int> cpus;
  uint64_t memory_bytes = 0;
  double seconds = 0;
};

// kInvalidArgument names the flag.
Result<MachineOptions> ParseMachineFlags(const MachineFlags& flags);

}  // namespace thermocline::tools
