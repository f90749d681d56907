// Where ops shall run, as people ask for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::kernels {

struct DeviceChoice {
  enum class Kind : uint8_t { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  int ordinal = 0;           // of the GPU, as CUDA counts them
  bool has_ordinal = false;  // somebody named it
  friend bool operator==(const DeviceChoice&, const DeviceChoice&) = default;
};

// "auto", "cpu", "cuda" or "cuda:1". kInvalidArgument names what is neither.
Result<DeviceChoice> ParseDeviceChoice(std::string_view text);

struct ChosenDevice {
  std::unique_ptr<Device> device;
  // Why it is no GPU, though one was welcome; "" otherwise. For people.
  std::string note;
};

// Auto takes the GPU of that ordinal where the build and the machine have it, else the CPU. Errors
// are those of MakeCudaDevice for kCuda, and of MakeCpuDevice.
Result<ChosenDevice> MakeDevice(const DeviceChoice& choice, const CpuDeviceOptions& cpu);

}  // namespace thermocline::kernels
