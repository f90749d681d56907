// What a worker's device holds rows of neurons in, of what it was told.
#pragma once

#include <string>

#include "kernels/device.h"
#include "model/neuron_rows.h"

namespace thermocline::worker {

struct DeviceRows {
  model::NeuronRows rows = model::NeuronRows::kAsIs;
  std::string note;  // why not as wanted, for the log; "": as wanted
};

// What was wanted where the device computes with it, else as they are: with --gpu-rows all workers
// of a service are told it, those on CPUs too.
DeviceRows RowsOn(const kernels::Device& device, model::NeuronRows wanted);

}  // namespace thermocline::worker
