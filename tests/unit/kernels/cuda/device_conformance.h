// The ops of a device with memory of its own, against the reference. One suite for the emulator and
// for GPUs.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::kernels {

struct DeviceMaker {
  std::string name;
  Result<std::unique_ptr<Device>> (*make)();

  friend void PrintTo(const DeviceMaker& maker, std::ostream* out) { *out << maker.name; }
};

// Skips, with the reason, where there is no such device.
class DeviceConformanceTest : public testing::TestWithParam<DeviceMaker> {
 protected:
  void SetUp() override {
    auto made = GetParam().make();
    if (!made.ok()) GTEST_SKIP() << made.status();
    device_ = std::move(made).value();
  }
  Device& device() { return *device_; }

 private:
  std::unique_ptr<Device> device_;
};

inline std::string MakerName(const testing::TestParamInfo<DeviceMaker>& info) {
  return info.param.name;
}

}  // namespace thermocline::kernels
