// The inner problem of placement: the FFNs of one stage over the devices of its group, in seconds
// and bytes alone. Whoever states it has turned model, profile and cluster into these numbers.
//
// Neurons of a layer lie in heat order, in blocks; block 0 holds those that fire most. At fixed
// memory prices an optimal split gives each device one interval of blocks (docs/placement.md), so
// an interval per layer and device is all there is to decide.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace thermocline::placement {

// One member of the group. The first is the stage's lead: attention, predictors and the sum are
// its.
struct SplitDevice {
  uint64_t memory_bytes = 0;  // for neurons: what everything else on the device leaves
  double part_s = 0;          // per layer that it computes a part of, whatever the part's size
  // Of the others, per layer they take part in; 0 for the lead.
  double send_s = 0;        // of the lead's wire, one member after the other
  double send_busy_s = 0;   // of that, what keeps the lead's thread from its own part
  double round_trip_s = 0;  // both latencies and transfers, besides send_s
  double merge_s = 0;       // of the lead's thread: adding the part that came back
  friend bool operator==(const SplitDevice&, const SplitDevice&) = default;
};

// Blocks [begin, end) of a layer; empty: the device takes no part.
struct BlockRange {
  int begin = 0;
  int end = 0;
  bool empty() const { return begin >= end; }
  int size() const { return empty() ? 0 : end - begin; }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};

struct SplitLayer {
  double fixed_s = 0;                 // of the lead before the FFN is split: attention and the like
  std::vector<uint64_t> block_bytes;  // in memory, by block
  // seconds[d][k]: what device d needs for blocks 0 .. k-1; n_blocks + 1 entries from 0, not
  // descending.
  std::vector<std::vector<double>> seconds;
  // Neurons expected to be active in blocks 0 .. k-1; n_blocks + 1 entries from 0, not descending.
  // Empty: one in each block.
  std::vector<double> active;
  // Device d is given none of them or at least so many (PowerInfer's C_l); empty: any number.
  std::vector<double> least_active;

  int n_blocks() const { return static_cast<int>(block_bytes.size()); }
  double ActiveIn(const BlockRange& range) const;
  // Whether device d may be given that much.
  bool HasLeastPart(int d, const BlockRange& range) const;
  friend bool operator==(const SplitLayer&, const SplitLayer&) = default;
};

struct SplitProblem {
  std::vector<SplitDevice> devices;  // 1 or more
  std::vector<SplitLayer> layers;
  friend bool operator==(const SplitProblem&, const SplitProblem&) = default;
};

// By layer: the first one that is equal to it. Models without a profile have one kind or two, and
// what is found for one of a kind holds for all.
std::vector<size_t> FirstOfKinds(const std::vector<SplitLayer>& layers);

// ranges[l][d]; of each layer they cover every block exactly once.
using LayerSplit = std::vector<BlockRange>;
using Split = std::vector<LayerSplit>;

// Beyond any model and cluster known; what a table of the solver may need stays below 1 GiB.
inline constexpr size_t kMaxSplitDevices = 64;
inline constexpr size_t kMaxSplitLayers = 1024;
inline constexpr size_t kMaxSplitBlocks = 1 << 16;
// Thirty years: sums of as many as there can be stay far from where doubles end.
inline constexpr double kMaxSplitSeconds = 1e9;

// A cluster file may hold any numbers above 0. Whatever would take longer than anybody waits takes
// kMaxSplitSeconds: no plan will use it unless nothing else is there.
void LimitSeconds(SplitProblem* problem);
// kInvalidArgument names the first table of the wrong size, or number that is negative, not finite
// or beyond kMaxSplitSeconds.
Status CheckProblem(const SplitProblem& problem);
// kInvalidArgument names the first rule that the split breaks: each block once, memory, least
// parts.
Status CheckSplit(const SplitProblem& problem, const Split& split);

}  // namespace thermocline::placement
