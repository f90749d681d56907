#include "placement/solver/layer_fill.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace thermocline::placement {
namespace {

// Of T: finer than any block of a layer with a hundred of them.
constexpr double kTimeTolerance = 1e-4;
// Halvings to the tolerance from anywhere; more would only be spent on times that are 0 in effect.
constexpr int kMaxHalvings = 64;
// Rounding of differences of prefix sums must not cost a device its last block.
constexpr double kSlack = 1e-12;

}  // namespace

LayerFill::LayerFill(const LayerTables& tables, const SplitPrices& prices,
                     std::vector<double> starts, std::vector<double> room)
    : tables_(tables),
      prices_(prices),
      starts_(std::move(starts)),
      room_(std::move(room)),
      order_(tables.n_devices()),
      ranges_(tables.n_devices()) {
  std::iota(order_.begin(), order_.end(), 0);
  // Equal prices: the slower device takes the colder end.
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) {
    if (prices_.byte[a] != prices_.byte[b]) return prices_.byte[a] < prices_.byte[b];
    return tables_.layer().seconds[a].back() > tables_.layer().seconds[b].back();
  });
  for (int d = 0; d < tables.n_devices(); ++d) {
    open_.push_back(tables.OpenPrice(prices, d));
    if (!tables.usable(d)) starts_[d] = kNever;
  }
  std::erase_if(order_, [&](int d) { return starts_[d] == kNever; });
}

// The first block of the longest interval up to `end` within `seconds` and the room.
int LayerFill::Reach(int d, int end, double seconds) const {
  const std::vector<double>& prefix = tables_.layer().seconds[d];
  const double from = prefix[end] - seconds - kSlack * prefix[end];
  auto first = std::lower_bound(prefix.begin(), prefix.begin() + end, from);
  int begin = static_cast<int>(first - prefix.begin());
  if (!room_.empty()) {
    const std::vector<double>& bytes = tables_.prefix_bytes();
    const auto fits =
        std::lower_bound(bytes.begin() + begin, bytes.begin() + end, bytes[end] - room_[d]);
    begin = static_cast<int>(fits - bytes.begin());
  }
  return begin;
}

double LayerFill::CostAt(double T) {
  std::fill(ranges_.begin(), ranges_.end(), BlockRange());
  double cost = 0;
  int end = tables_.n_blocks();
  for (const int d : order_) {
    if (starts_[d] >= T) continue;
    const int begin = Reach(d, end, T - starts_[d]);
    if (begin == end || !tables_.layer().HasLeastPart(d, {begin, end})) continue;
    ranges_[d] = {begin, end};
    cost += open_[d] + prices_.byte[d] * tables_.bytes(begin, end) +
            prices_.busy[d] * tables_.seconds(d, begin, end);
    end = begin;
    if (end == 0) return cost;
  }
  return kNever;
}

double LayerFill::latest() const {
  double latest = 0;
  for (const int d : order_) {
    latest = std::max(latest, starts_[d] + tables_.layer().seconds[d].back());
  }
  return latest * (1 + kTimeTolerance);
}

// The least T that suffices, to within the tolerance from above; kNever when `to` does not.
double LayerFill::FirstPossible(double from, double to) {
  if (CostAt(to) == kNever) return kNever;
  for (int i = 0; i < kMaxHalvings && to - from > 0.1 * kTimeTolerance * to; ++i) {
    const double middle = 0.5 * (from + to);
    (CostAt(middle) == kNever ? from : to) = middle;
  }
  return to;
}

LayerFill::Best LayerFill::SearchSegment(double from, double to) {
  constexpr double kGolden = 0.6180339887498949;
  const auto at = [&](double T) { return Best{T, prices_.latency * T + CostAt(T)}; };
  Best best = at(from);
  const auto better = [&](const Best& other) {
    if (other.price < best.price) best = other;
  };
  better(at(to));
  Best left = at(to - kGolden * (to - from)), right = at(from + kGolden * (to - from));
  for (int i = 0; i < kMaxHalvings && to - from > kTimeTolerance * to; ++i) {
    better(left);
    better(right);
    if (left.price <= right.price) {
      to = right.T;
      right = left;
      left = at(to - kGolden * (to - from));
    } else {
      from = left.T;
      left = right;
      right = at(from + kGolden * (to - from));
    }
  }
  return best;
}

LayerFill::Best LayerFill::Search(double from, double to) {
  from = FirstPossible(from, to);
  Best best;
  if (from == kNever) return best;
  std::vector<double> cuts = {from};
  for (const int d : order_) {
    if (starts_[d] > from && starts_[d] < to) cuts.push_back(starts_[d]);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.push_back(to);
  for (size_t s = 0; s + 1 < cuts.size(); ++s) {
    if (cuts[s] >= cuts[s + 1] || prices_.latency * cuts[s] >= best.price) continue;
    const Best here = SearchSegment(cuts[s], cuts[s + 1]);
    if (here.price < best.price) best = here;
  }
  return best;
}

}  // namespace thermocline::placement
