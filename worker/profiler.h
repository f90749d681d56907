// What this worker measures about itself before it says hello.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/device.h"
#include "model/neuron_rows.h"
#include "placement/profile.h"

namespace thermocline::worker {

// Of all measurements together; a start of a cluster waits for it.
inline constexpr Duration kProfileTime = std::chrono::milliseconds(450);
// After the profile time of a turn, before the next: memory to measure in is taken and given back.
inline constexpr Duration kTurnMargin = std::chrono::milliseconds(200);

struct ProfilerOptions {
  int n_threads = 1;
  std::vector<int> cpus;      // thread i stays on the i-th; none: not pinned
  uint64_t memory_bytes = 0;  // what the worker may use; the probe takes a quarter of it at most
  double slowdown = 1;        // of the device's ops; of plain reading, too, then
  // Where the GPU that computes sits, as its driver says; "": not known, or none computes.
  std::string pci_bus_id;
  model::NeuronRows rows = model::NeuronRows::kAsIs;  // 8 bits: measured beside the files' types
  Duration time = kProfileTime;
};

// Cores, NUMA nodes, GPUs and huge pages of this machine, and how fast it reads and `device`
// computes: every type of weights, since the model is not known yet. Without memory of the host to
// read the figures are unknown. A device of its own has run every op then, so that it has taken
// what it takes, and copies both ways are measured where the GPUs of the host have its place, to
// put them down there. Errors are the device's: kUnavailable when it is lost, kResourceExhausted
// when it has no memory to measure in. The calling thread runs on the first of the CPUs meanwhile;
// the memory it used is given back, and forgotten by the process's peak where the system allows
// that.
Result<placement::WorkerProfile> MeasureWorker(kernels::Device& device,
                                               const ProfilerOptions& options);

}  // namespace thermocline::worker
