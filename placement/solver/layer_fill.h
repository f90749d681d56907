// The cheapest split of a layer that ends by a given time, by filling devices in the order of their
// price from the layer's cold end.
#pragma once

#include <limits>
#include <vector>

#include "placement/solver/layer_tables.h"

namespace thermocline::placement {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

// Exact at T for given starts when blocks are small and each device's seconds are proportional to
// the others' (docs/placement.md, theorem 2); a good split otherwise. O(D log N) per T.
// Thread-compatible.
class LayerFill {
 public:
  // Devices whose start is kNever get nothing. `room`: bytes each may be given; empty: any.
  LayerFill(const LayerTables& tables, const SplitPrices& prices, std::vector<double> starts,
            std::vector<double> room = {});

  // Prices of bytes, busy time and taking part when all is done by T; kNever: not possible.
  double CostAt(double T);
  // Time and price that are least in [from, to]: golden sections between starts.
  struct Best {
    double T = kNever;
    double price = kNever;  // latency * T + CostAt(T)
  };
  Best Search(double from, double to);
  // Of the last CostAt.
  const LayerSplit& ranges() const { return ranges_; }
  // Devices from the cold end.
  const std::vector<int>& order() const { return order_; }
  // By when whoever may take the whole layer is done, at the latest.
  double latest() const;

 private:
  Best SearchSegment(double from, double to);
  double FirstPossible(double from, double to);
  int Reach(int d, int end, double seconds) const;

  const LayerTables& tables_;
  const SplitPrices& prices_;
  std::vector<double> starts_;
  std::vector<double> room_;
  std::vector<int> order_;
  std::vector<double> open_;  // by device
  LayerSplit ranges_;
};

}  // namespace thermocline::placement
