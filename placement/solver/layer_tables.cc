#include "placement/solver/layer_tables.h"

#include <algorithm>

#include "placement/solver/split_cost.h"

namespace thermocline::placement {

LayerTables::LayerTables(const SplitProblem& problem, const SplitLayer& layer)
    : problem_(&problem), layer_(&layer), prefix_bytes_{0} {
  for (const uint64_t bytes : layer.block_bytes) {
    block_bytes_.push_back(static_cast<double>(bytes));
    prefix_bytes_.push_back(prefix_bytes_.back() + block_bytes_.back());
  }
  for (int d = 0; d < n_devices(); ++d) {
    std::vector<double>& seconds = block_seconds_.emplace_back();
    for (int k = 0; k < n_blocks(); ++k) seconds.push_back(this->seconds(d, k, k + 1));
    usable_.push_back(IsUsable(d));
    twins_.push_back(d);
    for (int other = 1; other < d && twins_[d] == d; ++other) {
      if (twins_[other] == other && AreTwins(other, d)) twins_[d] = other;
    }
  }
}

bool LayerTables::IsUsable(int d) const {
  const auto memory = static_cast<double>(device(d).memory_bytes);
  for (int begin = 0; begin < n_blocks(); ++begin) {
    const int end = LeastEnd(d, begin);
    if (end <= n_blocks() && bytes(begin, end) <= memory) return true;
  }
  return false;
}

int LayerTables::LeastEnd(int d, int begin) const {
  if (least_active(d) == 0) return begin + 1;
  int low = begin + 1, high = n_blocks() + 1;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (layer_->HasLeastPart(d, {begin, middle})) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

int LayerTables::LastBegin(int d, int end) const {
  if (least_active(d) == 0) return end - 1;
  int low = -1, high = end - 1;
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (layer_->HasLeastPart(d, {middle, end})) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

bool LayerTables::AreTwins(int a, int b) const {
  const SplitDevice &one = device(a), &other = device(b);
  return one.part_s == other.part_s && one.send_s == other.send_s &&
         one.send_busy_s == other.send_busy_s && one.round_trip_s == other.round_trip_s &&
         one.merge_s == other.merge_s && least_active(a) == least_active(b) &&
         usable_[a] == usable_[b] && layer_->seconds[a] == layer_->seconds[b];
}

double LayerTables::FixedPrice(const SplitPrices& prices) const {
  return (prices.latency + prices.busy[0]) * layer_->fixed_s;
}

double LayerTables::OpenPrice(const SplitPrices& prices, int d) const {
  const SplitDevice& it = device(d);
  return prices.PartOf(d) + prices.latency * it.merge_s + prices.busy[d] * it.part_s +
         prices.busy[0] * (it.send_busy_s + it.merge_s);
}

double LayerTables::Price(const SplitPrices& prices, const LayerSplit& ranges) const {
  double price = FixedPrice(prices);
  if (prices.latency > 0) price += prices.latency * FfnSeconds(*problem_, *layer_, ranges);
  for (int d = 0; d < n_devices(); ++d) {
    if (ranges[d].empty()) continue;
    const SplitDevice& it = device(d);
    const double busy = it.part_s + seconds(d, ranges[d].begin, ranges[d].end);
    price += prices.PartOf(d) + prices.byte[d] * bytes(ranges[d].begin, ranges[d].end) +
             prices.busy[d] * busy + prices.busy[0] * (it.send_busy_s + it.merge_s);
  }
  return price;
}

std::vector<double> LayerTables::Bytes(const LayerSplit& ranges) const {
  std::vector<double> sums(n_devices(), 0.0);
  for (int d = 0; d < n_devices(); ++d) {
    if (!ranges[d].empty()) sums[d] = bytes(ranges[d].begin, ranges[d].end);
  }
  return sums;
}

}  // namespace thermocline::placement
