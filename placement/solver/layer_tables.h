// One layer prepared for the searches of the solver: prefix sums of bytes, seconds by block, costs
// of taking part, and the prices at which a search is made.
#pragma once

#include <vector>

#include "placement/solver/split_problem.h"

namespace thermocline::placement {

// What things are worth while the coupling of layers is priced instead of obeyed; all >= 0.
struct SplitPrices {
  double latency = 1;             // of a second of T_l
  std::vector<double> byte;       // of a byte in memory, by device
  std::vector<double> busy;       // of a second that a device is busy
  std::vector<double> part = {};  // of taking part, by device; empty: nothing
  double PartOf(int d) const { return part.empty() ? 0 : part[static_cast<size_t>(d)]; }
};

// Borrows the problem. Thread-compatible.
class LayerTables {
 public:
  LayerTables(const SplitProblem& problem, const SplitLayer& layer);

  int n_blocks() const { return layer_->n_blocks(); }
  int n_devices() const { return static_cast<int>(problem_->devices.size()); }
  const SplitProblem& problem() const { return *problem_; }
  const SplitLayer& layer() const { return *layer_; }
  const SplitDevice& device(int d) const { return problem_->devices[d]; }

  double bytes(int begin, int end) const { return prefix_bytes_[end] - prefix_bytes_[begin]; }
  double seconds(int d, int begin, int end) const {
    return layer_->seconds[d][end] - layer_->seconds[d][begin];
  }
  const std::vector<double>& prefix_bytes() const { return prefix_bytes_; }
  const std::vector<double>& block_bytes() const { return block_bytes_; }
  const std::vector<double>& block_seconds(int d) const { return block_seconds_[d]; }
  // The first end from `begin` on, and the last begin up to `end`, of a part that device d may be
  // given; n_blocks() + 1 and -1 where there is none.
  int LeastEnd(int d, int begin) const;
  int LastBegin(int d, int end) const;
  // From the layer's start to the first block of work there, when the lead sends to nobody else.
  double start(int d) const {
    const SplitDevice& it = device(d);
    return it.send_s + it.round_trip_s + it.part_s;
  }
  // False when no part of the layer fits the device's memory.
  bool usable(int d) const { return usable_[d]; }
  // The first device that has the same costs and seconds as d in this layer; never the lead's.
  int twin(int d) const { return twins_[d]; }

  // What a split of the layer costs at these prices.
  double Price(const SplitPrices& prices, const LayerSplit& ranges) const;
  // The same for what does not depend on the split.
  double FixedPrice(const SplitPrices& prices) const;
  // What taking part costs, whatever the part's size, without the time it adds to T_l by its start.
  double OpenPrice(const SplitPrices& prices, int d) const;
  std::vector<double> Bytes(const LayerSplit& ranges) const;

 private:
  bool AreTwins(int a, int b) const;
  bool IsUsable(int d) const;
  double least_active(int d) const {
    return layer_->least_active.empty() ? 0 : layer_->least_active[d];
  }

  const SplitProblem* problem_;
  const SplitLayer* layer_;
  std::vector<double> prefix_bytes_;
  std::vector<double> block_bytes_;
  std::vector<std::vector<double>> block_seconds_;
  std::vector<bool> usable_;
  std::vector<int> twins_;
};

}  // namespace thermocline::placement
