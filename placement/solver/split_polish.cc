#include "placement/solver/split_polish.h"

#include <algorithm>
#include <utility>

#include "placement/solver/layer_oracle.h"

namespace thermocline::placement {
namespace {

// Full prices first, so that layers free what others need more; at the end memory is worth nothing
// but its order.
constexpr double kPriceFactors[] = {1.0, 0.3, 1e-6, 1e-6};

class Polisher {
 public:
  Polisher(const SplitProblem& problem, const std::vector<LayerTables>& tables,
           SplitObjective objective, Split split)
      : problem_(problem),
        tables_(tables),
        objective_(objective),
        split_(std::move(split)),
        cost_(Evaluate(problem, split_)) {
    best_ = split_;
    best_value_ = objective_.Value(cost_);
  }

  void Pass(const SplitPrices& prices) {
    for (size_t l = 0; l < split_.size(); ++l) Improve(l, prices);
    const double value = objective_.Value(cost_);
    if (value >= best_value_) return;
    best_value_ = value;
    best_ = split_;
  }

  Split Take() { return std::move(best_); }

 private:
  double Worth(const SplitCost& cost, const SplitPrices& prices) const {
    double worth = objective_.Value(cost);
    for (size_t d = 0; d < cost.bytes.size(); ++d) {
      worth += prices.byte[d] * static_cast<double>(cost.bytes[d]);
    }
    return worth;
  }

  SplitCost With(size_t l, const LayerSplit& ranges) const {
    const SplitLayer& layer = problem_.layers[l];
    SplitCost cost = cost_;
    cost.seconds += FfnSeconds(problem_, layer, ranges) - FfnSeconds(problem_, layer, split_[l]);
    const std::vector<double> before = tables_[l].Bytes(split_[l]);
    const std::vector<double> after = tables_[l].Bytes(ranges);
    for (size_t d = 0; d < after.size(); ++d) {
      cost.busy_s[d] += BusySeconds(problem_, layer, ranges, d) -
                        BusySeconds(problem_, layer, split_[l], d);
      cost.bytes[d] += static_cast<uint64_t>(after[d]) - static_cast<uint64_t>(before[d]);
    }
    return cost;
  }

  void Improve(size_t l, const SplitPrices& prices) {
    std::vector<double> room = tables_[l].Bytes(split_[l]);
    for (size_t d = 0; d < room.size(); ++d) {
      room[d] += static_cast<double>(problem_.devices[d].memory_bytes) -
                 static_cast<double>(cost_.bytes[d]);
    }
    const std::optional<LayerSplit> ranges = BestLayerSplit(tables_[l], prices, room);
    if (!ranges || *ranges == split_[l]) return;
    const SplitCost cost = With(l, *ranges);
    if (Worth(cost, prices) >= Worth(cost_, prices)) return;
    cost_ = cost;
    split_[l] = *ranges;
  }

  const SplitProblem& problem_;
  const std::vector<LayerTables>& tables_;
  const SplitObjective objective_;
  Split split_;
  SplitCost cost_;
  Split best_;
  double best_value_;
};

}  // namespace

Split Polish(const SplitProblem& problem, const std::vector<LayerTables>& tables,
             SplitObjective objective, const SplitPrices& prices, Split split) {
  Polisher polisher(problem, tables, objective, std::move(split));
  for (const double factor : kPriceFactors) {
    SplitPrices scaled = prices;
    for (double& price : scaled.byte) price *= factor;
    polisher.Pass(scaled);
  }
  return polisher.Take();
}

}  // namespace thermocline::placement
