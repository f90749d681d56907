// How fast bytes go between the host's memory and that of a device, each way: PCIe, as what is sent
// and received crosses it.
#pragma once

#include "base/clock.h"
#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

struct CopyRates {
  double upload_bytes_per_s = 0;  // to the device
  double download_bytes_per_s = 0;
  double copy_s = 0;  // of a copy of one value, either way, until it is known to be done
};

// Through page-locked memory, as DeviceHop goes. Takes about `time`, at least one copy of each kind
// after the first, and gives back the memory that it needs. For a device with memory of its own.
// kResourceExhausted without memory at either end, kUnavailable when the device is lost.
Result<CopyRates> MeasureCopies(kernels::Device& device, Duration time);

}  // namespace thermocline::worker
