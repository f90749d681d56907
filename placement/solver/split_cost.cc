#include "placement/solver/split_cost.h"

#include <algorithm>

namespace thermocline::placement {
namespace {

double Work(const SplitLayer& layer, const LayerSplit& ranges, size_t d) {
  const BlockRange& range = ranges[d];
  return range.empty() ? 0 : layer.seconds[d][range.end] - layer.seconds[d][range.begin];
}

double Tail(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
            size_t d) {
  return problem.devices[d].round_trip_s + problem.devices[d].part_s + Work(layer, ranges, d);
}

}  // namespace

double SplitCost::bottleneck_s() const {
  return busy_s.empty() ? 0 : *std::max_element(busy_s.begin(), busy_s.end());
}

std::vector<int> SendOrder(const SplitProblem& problem, const SplitLayer& layer,
                           const LayerSplit& ranges) {
  std::vector<int> order;
  for (size_t d = 1; d < ranges.size(); ++d) {
    if (!ranges[d].empty()) order.push_back(static_cast<int>(d));
  }
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return Tail(problem, layer, ranges, a) > Tail(problem, layer, ranges, b);
  });
  return order;
}

double FfnSeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges) {
  double end = ranges[0].empty() ? 0 : problem.devices[0].part_s + Work(layer, ranges, 0);
  double sent = 0, merges = 0;
  for (const int d : SendOrder(problem, layer, ranges)) {
    sent += problem.devices[d].send_s;
    merges += problem.devices[d].merge_s;
    end = std::max(end, sent + Tail(problem, layer, ranges, d));
  }
  return end + merges;
}

double BusySeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
                   size_t d) {
  double busy = ranges[d].empty() ? 0 : problem.devices[d].part_s + Work(layer, ranges, d);
  if (d != 0) return busy;
  busy += layer.fixed_s;
  for (size_t e = 1; e < ranges.size(); ++e) {
    if (!ranges[e].empty()) busy += problem.devices[e].send_s + problem.devices[e].merge_s;
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
