// What a split costs: seconds per token and layer, how long each device is busy, bytes it holds.
//
//   T_l = fixed + max( B + part_0 + w_0,  max over others d of S_d + round_trip_d + part_d + w_d )
//         + sum of merge_d
//
// over the devices that have a range; w_d = seconds of its blocks, S_d = sends up to and including
// its own (DESIGN section 4), B = what all sends keep the lead's thread busy before its own part.
#pragma once

#include <cstdint>
#include <vector>

#include "placement/solver/split_problem.h"

namespace thermocline::placement {

struct SplitCost {
  double seconds = 0;           // sum of T_l: one token of one stream
  std::vector<double> busy_s;   // by device; the lead's with what is fixed, sends and merges
  std::vector<uint64_t> bytes;  // by device

  // The most tokens per second are 1 / bottleneck: other micro-batches hide the links.
  double bottleneck_s() const;
};

// `latency` of the seconds and the rest of the bottleneck: 1 serves one stream, 0 many.
struct SplitObjective {
  double latency = 1;
  double Value(const SplitCost& cost) const {
    return latency * cost.seconds + (1 - latency) * cost.bottleneck_s();
  }
};

// The others with a range, in the order the lead sends to them: longest tail (round trip, part and
// work) first. Jackson's rule for one machine with delivery times: exchanging two neighbours so
// that the longer tail goes first never delays the later of the two ends. Ties by index.
std::vector<int> SendOrder(const SplitProblem& problem, const SplitLayer& layer,
                           const LayerSplit& ranges);
// T_l, without fixed_s.
double FfnSeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges);
// What the layer keeps device d busy: its part; of the lead also fixed_s, sends and merges.
double BusySeconds(const SplitProblem& problem, const SplitLayer& layer, const LayerSplit& ranges,
                   size_t d);
SplitCost Evaluate(const SplitProblem& problem, const Split& split);

}  // namespace thermocline::placement
