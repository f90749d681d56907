// The CUDA backend over the emulator, for tests of stages; they link tc_kernels_emulated.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "kernels/cuda/emulator.h"
#include "kernels/device.h"

namespace thermocline::testing {

inline std::unique_ptr<kernels::Device> EmulatedGpuOf(
    const kernels::cuda::EmulatorOptions& options) {
  auto device = kernels::cuda::MakeEmulatedDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return std::move(device).value();
}
inline std::unique_ptr<kernels::Device> EmulatedGpu() { return EmulatedGpuOf({}); }

}  // namespace thermocline::testing
