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
  const double least = *std::min_element(block_bytes_.begin(), block_bytes_.end());
  for (int d = 0; d < n_devices(); ++d) {
    std::vector<double>& seconds = block_seconds_.emplace_back();
    for (int k = 0; k < n_blocks(); ++k) seconds.push_back(this->seconds(d, k, k + 1));
    min_blocks_.push_back(layer.min_blocks.empty() ? 1 : std::max(1, layer.min_blocks[d]));
    usable_.push_back(least * min_blocks_[d] <= static_cast<double>(device(d).memory_bytes) &&
                      min_blocks_[d] <= n_blocks());
    twins_.push_back(d);
    for (int other = 1; other < d && twins_[d] == d; ++other) {
      if (twins_[other] == other && AreTwins(other, d)) twins_[d] = other;
    }
  }
}

bool LayerTables::AreTwins(int a, int b) const {
  const SplitDevice &one = device(a), &other = device(b);
  return one.part_s == other.part_s && one.send_s == other.send_s &&
         one.send_busy_s == other.send_busy_s && one.round_trip_s == other.round_trip_s &&
         one.merge_s == other.merge_s && min_blocks_[a] == min_blocks_[b] &&
         usable_[a] == usable_[b] && layer_->seconds[a] == layer_->seconds[b];
}

double LayerTables::FixedPrice(const SplitPrices& prices) const {
  return (prices.latency + prices.busy[0]) * layer_->fixed_s;
}

double LayerTables::OpenPrice(const SplitPrices& prices, int d) const {
  const SplitDevice& it = device(d);
  return prices.latency * it.merge_s + prices.busy[d] * it.part_s +
         prices.busy[0] * (it.send_busy_s + it.merge_s);
}

double LayerTables::Price(const SplitPrices& prices, const LayerSplit& ranges) const {
  double price = FixedPrice(prices);
  if (prices.latency > 0) price += prices.latency * FfnSeconds(*problem_, *layer_, ranges);
  for (int d = 0; d < n_devices(); ++d) {
    if (ranges[d].empty()) continue;
    const SplitDevice& it = device(d);
    const double busy = it.part_s + seconds(d, ranges[d].begin, ranges[d].end);
    price += prices.byte[d] * bytes(ranges[d].begin, ranges[d].end) + prices.busy[d] * busy +
             prices.busy[0] * (it.send_busy_s + it.merge_s);
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
