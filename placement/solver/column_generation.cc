#include "placement/solver/column_generation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "placement/solver/layer_bound.h"
#include "placement/solver/layer_fill.h"
#include "placement/solver/layer_oracle.h"

namespace thermocline::placement {
namespace {

constexpr double kScaledValue = 100;  // of the objective in the master
// Costs of one layer that no plan worth having pays; in the master they would drown the others.
constexpr double kHopeless = 1e4 * kScaledValue;
constexpr double kBetter = -1e-7;  // reduced cost of a column worth adding, in the same units
constexpr double kWeight = 1e-6;   // smaller weights are rounding
// How far towards the master's prices from the best known ones the oracle is asked: the master's
// jump about while it knows few columns.
constexpr double kStep = 0.5;

std::vector<MasterLp::Resource> Resources(const SplitProblem& problem, SplitObjective objective) {
  std::vector<MasterLp::Resource> resources(problem.devices.size(), {.limit = 1});
  if (objective.latency < 1) {
    resources.insert(resources.end(), problem.devices.size(), {.limit = 0, .minus_z = true});
  }
  return resources;
}

SplitPrices NoPrices(const SplitProblem& problem, SplitObjective objective) {
  const size_t n = problem.devices.size();
  return {objective.latency, std::vector<double>(n, 0.0), std::vector<double>(n, 0.0)};
}

// Equal in every layer and in memory.
std::vector<std::vector<int>> AlikeDevices(const SplitProblem& problem,
                                           const std::vector<LayerTables>& tables) {
  std::vector<std::vector<int>> classes;
  for (int d = 1; d < static_cast<int>(problem.devices.size()); ++d) {
    const auto alike = [&](const std::vector<int>& of) {
      if (problem.devices[of[0]].memory_bytes != problem.devices[d].memory_bytes) return false;
      return std::all_of(tables.begin(), tables.end(), [&](const LayerTables& layer) {
        return layer.twin(d) == layer.twin(of[0]);
      });
    };
    const auto found = std::find_if(classes.begin(), classes.end(), alike);
    if (found == classes.end()) {
      classes.push_back({d});
    } else {
      found->push_back(d);
    }
  }
  std::erase_if(classes, [](const std::vector<int>& of) { return of.size() < 2; });
  return classes;
}

SplitPrices Between(const SplitPrices& from, const SplitPrices& to, double step) {
  SplitPrices prices = from;
  for (size_t d = 0; d < prices.byte.size(); ++d) {
    prices.byte[d] += step * (to.byte[d] - from.byte[d]);
    prices.busy[d] += step * (to.busy[d] - from.busy[d]);
  }
  return prices;
}

}  // namespace

ColumnGeneration::ColumnGeneration(const SplitProblem& problem,
                                   const std::vector<LayerTables>& tables, SplitObjective objective,
                                   double value)
    : problem_(problem),
      tables_(tables),
      objective_(objective),
      alike_(AlikeDevices(problem, tables)),
      first_of_kind_(FirstOfKinds(problem.layers)),
      scale_(value / kScaledValue),
      master_(static_cast<int>(problem.layers.size()), Resources(problem, objective),
              1 - objective.latency),
      columns_(problem.layers.size()),
      best_prices_(NoPrices(problem, objective)),
      last_prices_(best_prices_) {}

double ColumnGeneration::Cost(size_t layer, const LayerSplit& ranges) const {
  const SplitLayer& it = problem_.layers[layer];
  return objective_.latency * (it.fixed_s + FfnSeconds(problem_, it, ranges)) / scale_;
}

std::vector<double> ColumnGeneration::Usage(size_t layer, const LayerSplit& ranges) const {
  std::vector<double> usage = tables_[layer].Bytes(ranges);
  for (size_t d = 0; d < usage.size(); ++d) {
    // A device without memory gets nothing from the oracle; a start that gives it some pays.
    usage[d] /= std::max(1.0, static_cast<double>(problem_.devices[d].memory_bytes));
  }
  if (objective_.latency >= 1) return usage;
  for (size_t d = 0; d < problem_.devices.size(); ++d) {
    usage.push_back(BusySeconds(problem_, problem_.layers[layer], ranges, d) / scale_);
  }
  return usage;
}

bool ColumnGeneration::AddColumn(size_t layer, const LayerSplit& ranges, bool if_better) {
  const double cost = Cost(layer, ranges);
  std::vector<double> usage = Usage(layer, ranges);
  if (!columns_[layer].empty() && cost > kHopeless) return false;
  if (if_better && master_.ReducedCost(static_cast<int>(layer), cost, usage) > kBetter) {
    return false;
  }
  const int index = master_.AddColumn(static_cast<int>(layer), cost, std::move(usage));
  columns_[layer].push_back({ranges, index});
  return true;
}

void ColumnGeneration::Add(const Split& split) {
  for (size_t l = 0; l < split.size(); ++l) AddColumn(l, split[l], false);
}

SplitPrices ColumnGeneration::MasterPrices() const {
  const size_t n = problem_.devices.size();
  SplitPrices prices = NoPrices(problem_, objective_);
  for (size_t d = 0; d < n; ++d) {
    const double memory = std::max(1.0, static_cast<double>(problem_.devices[d].memory_bytes));
    prices.byte[d] = master_.price(static_cast<int>(d)) * scale_ / memory;
    if (objective_.latency < 1) prices.busy[d] = master_.price(static_cast<int>(n + d));
  }
  // Of the bottleneck there is only 1 - latency to share out; more would make no bound.
  double sum = 0;
  for (const double price : prices.busy) sum += price;
  if (sum > 1 - objective_.latency) {
    for (double& price : prices.busy) price *= (1 - objective_.latency) / sum;
  }
  return prices;
}

// Alike devices at their mean price: the dual function is concave and does not tell them apart, so
// it is not less there.
SplitPrices ColumnGeneration::Evened(SplitPrices prices) const {
  for (const std::vector<int>& of : alike_) {
    for (std::vector<double>* values : {&prices.byte, &prices.busy}) {
      double sum = 0;
      for (const int d : of) sum += (*values)[d];
      for (const int d : of) (*values)[d] = sum / static_cast<double>(of.size());
    }
  }
  return prices;
}

// The same split with the parts of alike devices moved on: what one answer of the oracle gives to
// the first of them should not be the first's in every layer.
LayerSplit ColumnGeneration::Rotated(LayerSplit ranges, size_t by) const {
  for (const std::vector<int>& of : alike_) {
    const LayerSplit before = ranges;
    for (size_t i = 0; i < of.size(); ++i) ranges[of[(i + by) % of.size()]] = before[of[i]];
  }
  return ranges;
}

const LayerSplit& ColumnGeneration::Cheapest(size_t first, const SplitPrices& prices) const {
  const LayerSplit* best = nullptr;
  double price = kNever;
  for (size_t l = first; l < columns_.size(); ++l) {
    if (first_of_kind_[l] != first) continue;
    for (const Column& column : columns_[l]) {
      const double other = tables_[first].Price(prices, column.ranges);
      if (best && other >= price) continue;
      best = &column.ranges;
      price = other;
    }
  }
  return *best;
}

double ColumnGeneration::PaidFor(const SplitPrices& prices) const {
  double sum = 0;
  for (size_t d = 0; d < problem_.devices.size(); ++d) {
    sum += prices.byte[d] * static_cast<double>(problem_.devices[d].memory_bytes);
  }
  return sum;
}

// Asks the oracle at these prices. True when a layer got a column that the master wants.
bool ColumnGeneration::Price(const SplitPrices& prices, bool thorough) {
  bool added = false;
  double dual = -PaidFor(prices);
  std::vector<LayerSplit> best(tables_.size());  // of each kind
  std::vector<bool> is_new(tables_.size());
  for (size_t l = 0; l < tables_.size(); ++l) {
    const size_t first = first_of_kind_[l];
    if (first == l) {
      best[l] = Cheapest(l, prices);
      const auto found =
          BestLayerSplit(tables_[l], prices, {.known = &best[l], .thorough = thorough});
      is_new[l] = found.has_value();
      if (found) best[l] = *found;
    }
    dual += tables_[l].Price(prices, best[first]);
    if (is_new[first]) {
      added |= AddColumn(l, Rotated(best[first], l + static_cast<size_t>(rounds_)), true);
    }
  }
  if (best_dual_ < 0 || dual > best_dual_) {
    best_dual_ = dual;
    best_prices_ = prices;
  }
  return added;
}

void ColumnGeneration::Run(int max_rounds, double gap) {
  // Quick answers while the prices are far from good; an end is only believed to thorough ones.
  bool thorough = false;
  for (int round = 0; round < max_rounds; ++round) {
    // Without the master's prices the best known ones and the splits found have to do.
    if (!master_.Solve()) break;
    ++rounds_;
    last_prices_ = Evened(MasterPrices());
    const bool near = best_dual_ >= master_.objective() * scale_ * (1 - gap);
    if (near && thorough) break;
    const SplitPrices asked =
        round == 0 ? last_prices_ : Between(best_prices_, last_prices_, kStep);
    if (!near && (Price(asked, thorough) || Price(last_prices_, thorough))) continue;
    if (thorough) break;
    thorough = true;
    best_dual_ = -1;  // by quick answers, so maybe too high
    Price(best_prices_, thorough);
  }
}

double ColumnGeneration::BoundAt(const SplitPrices& prices) const {
  double bound = -PaidFor(prices);
  std::vector<double> bounds(tables_.size());
  for (size_t l = 0; l < tables_.size(); ++l) {
    const size_t first = first_of_kind_[l];
    if (first == l) bounds[l] = LayerBound(tables_[l], prices, Cheapest(l, prices));
    bound += bounds[first];
  }
  return bound;
}

double ColumnGeneration::Bound() const {
  return std::max(BoundAt(best_prices_), BoundAt(last_prices_));
}

std::vector<double> ColumnGeneration::MeanBytes(size_t layer) const {
  std::vector<double> mean(problem_.devices.size(), 0.0);
  for (const Column& column : columns_[layer]) {
    const double weight = master_.weight(column.index);
    if (weight < kWeight) continue;
    const std::vector<double> bytes = tables_[layer].Bytes(column.ranges);
    for (size_t d = 0; d < mean.size(); ++d) mean[d] += weight * bytes[d];
  }
  return mean;
}

// The best known or new split within the room.
std::optional<LayerSplit> ColumnGeneration::Choose(size_t layer,
                                                   const std::vector<double>& room) const {
  const LayerTables& tables = tables_[layer];
  std::optional<LayerSplit> best = BestLayerSplit(tables, last_prices_, {.room = room});
  double price = best ? tables.Price(last_prices_, *best) : 0;
  for (const Column& column : columns_[layer]) {
    const std::vector<double> bytes = tables.Bytes(column.ranges);
    bool fits = true;
    for (size_t d = 0; d < room.size(); ++d) fits &= bytes[d] <= room[d];
    const double other = tables.Price(last_prices_, column.ranges);
    if (!fits || (best && other >= price)) continue;
    best = column.ranges;
    price = other;
  }
  return best;
}

// Layers on one column keep it; each other layer may use what its columns use on average, and what
// the layers before it left of theirs.
std::optional<Split> ColumnGeneration::Round() const {
  Split split(columns_.size());
  std::vector<double> left;
  for (const SplitDevice& device : problem_.devices) {
    left.push_back(static_cast<double>(device.memory_bytes));
  }
  std::vector<std::pair<size_t, std::vector<double>>> open;  // layer, mean bytes
  for (size_t l = 0; l < columns_.size(); ++l) {
    std::vector<double> bytes = MeanBytes(l);
    for (size_t d = 0; d < left.size(); ++d) left[d] -= bytes[d];
    for (const Column& column : columns_[l]) {
      if (master_.weight(column.index) > 1 - kWeight) split[l] = column.ranges;
    }
    if (split[l].empty()) open.emplace_back(l, std::move(bytes));
  }
  for (const auto& [l, mean] : open) {
    for (size_t d = 0; d < left.size(); ++d) left[d] += mean[d];
    const std::optional<LayerSplit> ranges = Choose(l, left);
    if (!ranges) return std::nullopt;
    const std::vector<double> bytes = tables_[l].Bytes(*ranges);
    for (size_t d = 0; d < left.size(); ++d) left[d] -= bytes[d];
    split[l] = *ranges;
  }
  return split;
}

}  // namespace thermocline::placement
