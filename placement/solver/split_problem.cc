#include "placement/solver/split_problem.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace thermocline::placement {
namespace {

bool IsTime(double seconds) { return seconds >= 0 && seconds <= kMaxSplitSeconds; }

Status CheckDevice(const SplitDevice& device, size_t d) {
  if (IsTime(device.part_s) && IsTime(device.send_s) && IsTime(device.send_busy_s) &&
      IsTime(device.round_trip_s) && IsTime(device.merge_s)) {
    return OkStatus();
  }
  return InvalidArgument("a cost of a device is negative or beyond all bounds: device=" +
                         std::to_string(d));
}

Status CheckTable(const std::vector<double>& seconds, int n_blocks, const std::string& where) {
  if (seconds.size() != static_cast<size_t>(n_blocks) + 1) {
    return InvalidArgument("table has the wrong length: " + where +
                           " n=" + std::to_string(seconds.size()) +
                           " want=" + std::to_string(n_blocks + 1));
  }
  if (seconds[0] != 0 || !std::all_of(seconds.begin(), seconds.end(), IsTime) ||
      !std::is_sorted(seconds.begin(), seconds.end())) {
    return InvalidArgument("table does not rise from 0 or ends beyond all bounds: " + where);
  }
  return OkStatus();
}

Status CheckLayer(const SplitLayer& layer, size_t l, size_t n_devices) {
  const std::string where = "layer=" + std::to_string(l);
  if (layer.block_bytes.empty() || layer.block_bytes.size() > kMaxSplitBlocks) {
    return InvalidArgument("number of blocks out of range: " + where +
                           " n=" + std::to_string(layer.block_bytes.size()));
  }
  if (!IsTime(layer.fixed_s)) {
    return InvalidArgument("time before the FFN is negative or beyond all bounds: " + where);
  }
  if (layer.seconds.size() != n_devices ||
      (!layer.least_active.empty() && layer.least_active.size() != n_devices)) {
    return InvalidArgument("tables for another number of devices: " + where +
                           " n=" + std::to_string(layer.seconds.size()) +
                           " want=" + std::to_string(n_devices));
  }
  for (size_t d = 0; d < n_devices; ++d) {
    const Status status =
        CheckTable(layer.seconds[d], layer.n_blocks(), where + " device=" + std::to_string(d));
    if (!status.ok()) return status;
  }
  if (!std::all_of(layer.least_active.begin(), layer.least_active.end(), IsTime)) {
    return InvalidArgument("a least part is negative or beyond all bounds: " + where);
  }
  return layer.active.empty() ? OkStatus()
                              : CheckTable(layer.active, layer.n_blocks(), where + " active");
}

Status CheckLayerSplit(const SplitLayer& layer, const LayerSplit& ranges, size_t l) {
  const std::string where = "layer=" + std::to_string(l);
  if (ranges.size() != layer.seconds.size()) {
    return InvalidArgument("ranges for another number of devices: " + where);
  }
  std::vector<int> times(layer.block_bytes.size(), 0);
  for (size_t d = 0; d < ranges.size(); ++d) {
    const BlockRange& range = ranges[d];
    if (range.empty()) continue;
    if (range.begin < 0 || range.end > layer.n_blocks()) {
      return InvalidArgument("range outside the layer: " + where + " device=" + std::to_string(d));
    }
    if (!layer.HasLeastPart(static_cast<int>(d), range)) {
      return InvalidArgument("part below the least one: " + where + " device=" + std::to_string(d) +
                             " active=" + std::to_string(layer.ActiveIn(range)) +
                             " least=" + std::to_string(layer.least_active[d]));
    }
    for (int k = range.begin; k < range.end; ++k) ++times[k];
  }
  const auto wrong = std::find_if(times.begin(), times.end(), [](int n) { return n != 1; });
  if (wrong == times.end()) return OkStatus();
  return InvalidArgument("block not placed exactly once: " + where +
                         " block=" + std::to_string(wrong - times.begin()) +
                         " times=" + std::to_string(*wrong));
}

}  // namespace

double SplitLayer::ActiveIn(const BlockRange& range) const {
  if (active.empty()) return range.size();
  return active[static_cast<size_t>(range.end)] - active[static_cast<size_t>(range.begin)];
}

bool SplitLayer::HasLeastPart(int d, const BlockRange& range) const {
  // Sums of as many terms differ by less.
  constexpr double kRounding = 1e-9;
  if (least_active.empty() || range.empty()) return true;
  return ActiveIn(range) >= least_active[static_cast<size_t>(d)] * (1 - kRounding);
}

std::vector<size_t> FirstOfKinds(const std::vector<SplitLayer>& layers) {
  std::vector<size_t> first;
  for (size_t l = 0; l < layers.size(); ++l) {
    size_t other = 0;
    while (other < l && (first[other] != other || layers[other] != layers[l])) ++other;
    first.push_back(other);
  }
  return first;
}

void LimitSeconds(SplitProblem* problem) {
  const auto limit = [](double* seconds) { *seconds = std::min(*seconds, kMaxSplitSeconds); };
  for (SplitDevice& device : problem->devices) {
    for (double* cost : {&device.part_s, &device.send_s, &device.round_trip_s, &device.merge_s}) {
      limit(cost);
    }
  }
  for (SplitLayer& layer : problem->layers) {
    limit(&layer.fixed_s);
    for (double& least : layer.least_active) limit(&least);
    for (std::vector<double>& seconds : layer.seconds) {
      // Rising, so only an end can be beyond.
      for (auto s = seconds.rbegin(); s != seconds.rend() && *s > kMaxSplitSeconds; ++s) limit(&*s);
    }
  }
}

Status CheckProblem(const SplitProblem& problem) {
  if (problem.devices.empty() || problem.devices.size() > kMaxSplitDevices) {
    return InvalidArgument("number of devices out of range: n=" +
                           std::to_string(problem.devices.size()));
  }
  if (problem.layers.empty() || problem.layers.size() > kMaxSplitLayers) {
    return InvalidArgument("number of layers out of range: n=" +
                           std::to_string(problem.layers.size()));
  }
  for (size_t d = 0; d < problem.devices.size(); ++d) {
    const Status status = CheckDevice(problem.devices[d], d);
    if (!status.ok()) return status;
  }
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const Status status = CheckLayer(problem.layers[l], l, problem.devices.size());
    if (!status.ok()) return status;
  }
  return OkStatus();
}

Status CheckSplit(const SplitProblem& problem, const Split& split) {
  if (split.size() != problem.layers.size()) {
    return InvalidArgument("split of another number of layers: n=" + std::to_string(split.size()) +
                           " want=" + std::to_string(problem.layers.size()));
  }
  std::vector<uint64_t> bytes(problem.devices.size(), 0);
  for (size_t l = 0; l < split.size(); ++l) {
    const SplitLayer& layer = problem.layers[l];
    const Status status = CheckLayerSplit(layer, split[l], l);
    if (!status.ok()) return status;
    for (size_t d = 0; d < bytes.size(); ++d) {
      for (int k = split[l][d].begin; k < split[l][d].end; ++k) bytes[d] += layer.block_bytes[k];
    }
  }
  for (size_t d = 0; d < bytes.size(); ++d) {
    if (bytes[d] <= problem.devices[d].memory_bytes) continue;
    return InvalidArgument("split exceeds memory: device=" + std::to_string(d) +
                           " bytes=" + std::to_string(bytes[d]) +
                           " memory=" + std::to_string(problem.devices[d].memory_bytes));
  }
  return OkStatus();
}

}  // namespace thermocline::placement
