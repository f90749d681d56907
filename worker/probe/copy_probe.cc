#include "worker/probe/copy_probe.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/units.h"
#include "worker/device_hop.h"
#include "worker/probe/bandwidth_probe.h"

namespace thermocline::worker {
namespace {

// Of each end. A copy of more goes in turns, each of which is waited for: some 10 us beside 40 on
// PCIe 5 x16, so that the rate is the bus's and not the waits'. A hop of links, which stays while
// its worker serves, makes do with less (kLeastProbeBytes); this one is given back.
constexpr uint64_t kBufferBytes = 2 * kMiB;
// Some 0.3 ms on PCIe 5 x16, beside some 10 us for the wait.
constexpr uint64_t kCopyBytes = 16 * kMiB;
// No wire is faster; keeps a rate finite where noise hides what the bytes add.
constexpr double kMaxBytesPerS = 1e12;

// The median of as many as there is time for, without the first.
template <typename Copy>
Result<double> MedianOf(Copy copy, Duration time) {
  const SteadyClock clock;
  TC_RETURN_IF_ERROR(copy());
  std::vector<double> seconds;
  TimePoint now = clock.Now();
  const TimePoint end = now + time;
  do {
    TC_RETURN_IF_ERROR(copy());
    const TimePoint begun = std::exchange(now, clock.Now());
    seconds.push_back(Seconds(now - begun));
  } while (now < end);
  return MedianSeconds(std::move(seconds));
}

// By what the bytes add to a copy of one value.
double RateOf(double small_s, double large_s) {
  constexpr auto kBytes = static_cast<double>(kCopyBytes);
  return kBytes / std::max(large_s - small_s, kBytes / kMaxBytesPerS);
}

}  // namespace

Result<CopyRates> MeasureCopies(kernels::Device& device, Duration time) {
  DeviceHop hop(device, kBufferBytes);
  TC_RETURN_IF_ERROR(hop.Prepare());
  const auto in = [&](uint64_t n_bytes) {
    return MedianOf([&hop, n_bytes] { return hop.In(n_bytes); }, time / 4);
  };
  const auto out = [&](uint64_t n_bytes) {
    return MedianOf([&hop, n_bytes] { return hop.Out(n_bytes); }, time / 4);
  };
  TC_ASSIGN_OR_RETURN(const double small_in_s, in(1));
  TC_ASSIGN_OR_RETURN(const double small_out_s, out(1));
  TC_ASSIGN_OR_RETURN(const double large_in_s, in(kCopyBytes));
  TC_ASSIGN_OR_RETURN(const double large_out_s, out(kCopyBytes));
  return CopyRates{.upload_bytes_per_s = RateOf(small_in_s, large_in_s),
                   .download_bytes_per_s = RateOf(small_out_s, large_out_s),
                   .copy_s = (small_in_s + small_out_s) / 2};
}

}  // namespace thermocline::worker
