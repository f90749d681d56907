#include "placement/solver/split_cost.h"

#include <algorithm>
#include <array>
#include <span>

namespace thermocline::placement {
namespace {

double Work(const SplitLayer& layer, const LayerSplit& ranges, size_t d) {
  const BlockRange& range = ranges[d];
  return range.empty() ? 0 : layer.seconds[d][range.end] - layer.seconds[d][range.begin];
}

struct Send {
  int to = 0;
  double tail_s = 0;
};

// In the order of SendOrder, in `sends`: this is called too often to take memory.
std::span<const Send> Sends(const SplitProblem& problem, const SplitLayer& layer,
                            const LayerSplit& ranges, std::array<Send, kMaxSplitDevices>& sends) {
  size_t n = 0;
  for (size_t d = 1; d < ranges.size(); ++d) {
    if (ranges[d].empty()) continue;
    const SplitDevice& device = problem.devices[d];
    const Send send{static_cast<int>(d),
                    device.round_trip_s + device.part_s + Work(layer, ranges, d)};
    size_t at = n++;
    for (; at > 0 && sends[at - 1].tail_s < send.tail_s; --at) sends[at] = sends[at - 1];
    sends[at] = send;
  }
  return {sends.data(), n};
}

}  // namespace

double SplitCost::bottleneck_s() const {
  return busy_s.empty() ? 0 : *std::max_element(busy_s.begin(), busy_s.end());
}

std::vector<int> SendOrder(const SplitProblem& problem, const SplitLayer& layer,
                           const LayerSplit& ranges) {
  std::array<Send, kMaxSplitDevices> sends;
  std::vector<int> order;
  for (const Send& send : Sends(problem, layer, ranges, sends)) order.push_back(send.to);
  return order;
}

double FfnSeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges) {
  std::array<Send, kMaxSplitDevices> sends;
  double end = 0, sent = 0, busy = 0, merges = 0;
  for (const Send& send : Sends(problem, layer, ranges, sends)) {
    const SplitDevice& device = problem.devices[send.to];
    sent += device.send_s;
    busy += device.send_busy_s;
    merges += device.merge_s;
    end = std::max(end, sent + send.tail_s);
  }
  if (!ranges[0].empty()) {
    end = std::max(end, busy + problem.devices[0].part_s + Work(layer, ranges, 0));
  }
  return end + merges;
}

double BusySeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
                   size_t d) {
  double busy = ranges[d].empty() ? 0 : problem.devices[d].part_s + Work(layer, ranges, d);
  if (d != 0) return busy;
  busy += layer.fixed_s;
  for (size_t e = 1; e < ranges.size(); ++e) {
    if (!ranges[e].empty()) busy += problem.devices[e].send_busy_s + problem.devices[e].merge_s;
  }
  return busy;
}

SplitCost Evaluate(const SplitProblem& problem, const Split& split) {
  SplitCost cost;
  cost.busy_s.assign(problem.devices.size(), 0);
  cost.bytes.assign(problem.devices.size(), 0);
  for (size_t l = 0; l < split.size(); ++l) {
    const SplitLayer& layer = problem.layers[l];
    cost.seconds += layer.fixed_s + FfnSeconds(problem, layer, split[l]);
    for (size_t d = 0; d < problem.devices.size(); ++d) {
      cost.busy_s[d] += BusySeconds(problem, layer, split[l], d);
      for (int k = split[l][d].begin; k < split[l][d].end; ++k) {
        cost.bytes[d] += layer.block_bytes[k];
      }
    }
  }
  return cost;
}

}  // namespace thermocline::placement
