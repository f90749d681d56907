#include "tests/bench/bench_device.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/emulator.h"
#include "kernels/device_choice.h"

namespace thermocline::bench {
namespace {

// Room for a model of some MB and for what ops want beside it.
constexpr uint64_t kEmulatedBytes = uint64_t{512} << 20;

constexpr char kEmulated[] = "emulated";
constexpr int kEmulatedRepeats = 5;  // enough for a step to come again and be replayed

}  // namespace

Result<std::unique_ptr<kernels::Device>> OpenDevice(const std::string& name) {
  if (name == kEmulated) {
    return kernels::cuda::MakeEmulatedDevice({.memory_bytes = kEmulatedBytes});
  }
  TC_ASSIGN_OR_RETURN(const auto choice, kernels::ParseDeviceChoice(name));
  TC_ASSIGN_OR_RETURN(auto chosen, kernels::MakeDevice(choice, {}));
  return std::move(chosen.device);
}

int RepeatsOn(const std::string& name, int n) {
  return name == kEmulated ? std::min(n, kEmulatedRepeats) : n;
}

}  // namespace thermocline::bench
