#include "worker/probe/device_copy_probe.h"

#include <algorithm>

#include "base/clock.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Far beyond the caches of any card (50 MiB), and little beside its memory.
constexpr uint64_t kMostBytes = 256 * kMiB;
// Of one direction: 8 GiB at most, some 2 ms on the fastest cards, beside 10 us for the wait.
constexpr int kCopies = 16;

}  // namespace

Result<DeviceCopyProbe> DeviceCopyProbe::Create(kernels::Device& device) {
  DeviceCopyProbe probe(device);
  const uint64_t n_bytes = std::clamp(device.memory().free_bytes / 8, kMiB, kMostBytes);
  TC_ASSIGN_OR_RETURN(probe.from_, device.Allocate(n_bytes));
  TC_ASSIGN_OR_RETURN(probe.to_, device.Allocate(n_bytes));
  return probe;
}

Result<double> DeviceCopyProbe::BytesPerS() {
  const auto copy = [&] { device_->CopyWithin(from_.data(), to_.data(), from_.size()); };
  copy();
  TC_RETURN_IF_ERROR(device_->Synchronize());
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  for (int i = 0; i < kCopies; ++i) copy();
  TC_RETURN_IF_ERROR(device_->Synchronize());
  const double seconds = std::max(Seconds(clock.Now() - begin), 1e-9);
  return 2.0 * kCopies * static_cast<double>(from_.size()) / seconds;
}

}  // namespace thermocline::worker
