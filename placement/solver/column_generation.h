// Prices for memory and busy time by column generation: the master problem chooses among known
// splits of each layer, the oracle finds better ones at the master's prices, until none is.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/layer_tables.h"
#include "placement/solver/master_lp.h"
#include "placement/solver/split_cost.h"

namespace thermocline::placement {

// Borrows the problem and its tables. Thread-compatible.
class ColumnGeneration {
 public:
  // `value`: of some split or about it, to scale by; > 0.
  ColumnGeneration(const SplitProblem& problem, const std::vector<LayerTables>& tables,
                   SplitObjective objective, double value);

  void Add(const Split& split);
  // Until the master's value is within `gap` of the best dual value, at most so many rounds.
  void Run(int max_rounds, double gap);

  // Lower bound on the objective of any split, by LayerBound at the best prices.
  double Bound() const;
  // Prices at the end.
  const SplitPrices& prices() const { return best_prices_; }
  // The master's choice made whole; nullopt when memory does not allow it.
  std::optional<Split> Round() const;
  int rounds() const { return rounds_; }

 private:
  struct Column {
    LayerSplit ranges;
    int index = 0;  // in the master
  };

  // Of the splits known of this layer, or of those that are equal to it.
  const LayerSplit& Cheapest(size_t first, const SplitPrices& prices) const;
  SplitPrices Evened(SplitPrices prices) const;
  LayerSplit Rotated(LayerSplit ranges, size_t by) const;
  bool AddColumn(size_t layer, const LayerSplit& ranges, bool if_better);
  double Cost(size_t layer, const LayerSplit& ranges) const;
  std::vector<double> Usage(size_t layer, const LayerSplit& ranges) const;
  SplitPrices MasterPrices() const;
  double PaidFor(const SplitPrices& prices) const;
  bool Price(const SplitPrices& prices, bool thorough);
  double BoundAt(const SplitPrices& prices) const;
  std::vector<double> MeanBytes(size_t layer) const;
  std::optional<LayerSplit> Choose(size_t layer, const std::vector<double>& room) const;

  const SplitProblem& problem_;
  const std::vector<LayerTables>& tables_;
  const SplitObjective objective_;
  const std::vector<std::vector<int>> alike_;  // devices that may stand for one another: 2 or more
  const std::vector<size_t> first_of_kind_;    // by layer
  const double scale_;                         // seconds of the objective per unit of the master's
  MasterLp master_;
  std::vector<std::vector<Column>> columns_;  // by layer
  SplitPrices best_prices_;
  SplitPrices last_prices_;
  double best_dual_ = -1;
  int rounds_ = 0;
};

}  // namespace thermocline::placement
