#include "placement/solver/layer_oracle.h"

#include <algorithm>
#include <cstdint>

#include "placement/solver/layer_fill.h"
#include "placement/solver/layer_path.h"
#include "placement/solver/time_values.h"

namespace thermocline::placement {
namespace {

// Devices that take part, as bits: there are at most kMaxSplitDevices of them.
using Members = uint64_t;
static_assert(kMaxSplitDevices <= 64);

constexpr Members Bit(int d) { return Members{1} << d; }

// Prices that are worse by more than this do not get better by another order of sends.
constexpr double kFar = 1.03;
constexpr int kOrders = 3;  // of sends tried for the same members
constexpr int kMaxMoves = 40;
constexpr double kGain = 1e-7;  // of the price: smaller gains are no reason to move again

class Search {
 public:
  Search(const LayerTables& tables, const SplitPrices& prices, const OracleOptions& options)
      : tables_(tables),
        prices_(prices),
        options_(options),
        values_(tables.n_devices(), 0.0),
        classes_(tables.n_devices()) {
    for (int d = 0; d < tables.n_devices(); ++d) {
      classes_[d] = d;
      for (int other = 1; other < d && classes_[d] == d; ++other) {
        if (AreAlike(other, d)) classes_[d] = other;
      }
    }
  }

  std::optional<LayerSplit> Run() {
    std::vector<double> alone(tables_.n_devices());
    for (int d = 0; d < tables_.n_devices(); ++d) alone[d] = tables_.start(d);
    if (prices_.latency == 0) {
      TryPath(alone, kNever);
      return best_;
    }
    if (options_.known) TryMembers(MembersOf(*options_.known));
    if (!best_ || options_.thorough) TryStarts(alone);
    if (!best_) TryPath(alone, kNever);
    if (best_) {
      Settle();
      ChangeMembers();
    }
    if (options_.known && Fits(*options_.known)) Offer(*options_.known);
    return best_;
  }

 private:
  bool AreAlike(int a, int b) const {
    return tables_.twin(a) == tables_.twin(b) && prices_.byte[a] == prices_.byte[b] &&
           prices_.busy[a] == prices_.busy[b] && prices_.PartOf(a) == prices_.PartOf(b) &&
           (options_.room.empty() || options_.room[a] == options_.room[b]);
  }

  bool Fits(const LayerSplit& ranges) const {
    for (int d = 0; d < tables_.n_devices() && !options_.room.empty(); ++d) {
      if (tables_.bytes(ranges[d].begin, std::max(ranges[d].begin, ranges[d].end)) >
          options_.room[d]) {
        return false;
      }
    }
    return true;
  }

  bool Offer(const LayerSplit& ranges) {
    const double price = tables_.Price(prices_, ranges);
    if (!(price < price_)) return false;
    price_ = price;
    best_ = ranges;
    return true;
  }

  // The best time for these starts; kNever when there is none or it is too long to be any good.
  double TryStarts(const std::vector<double>& starts) {
    LayerFill fill(tables_, prices_, starts, options_.room);
    const double T = fill.Search(0, std::min(fill.latest(), price_ / prices_.latency)).T;
    if (T == kNever || fill.CostAt(T) == kNever) return kNever;
    last_price_ = tables_.Price(prices_, fill.ranges());
    values_ = TimeValues(tables_, prices_, fill.order(), fill.ranges(), prices_.latency);
    Offer(fill.ranges());
    return T;
  }

  bool TryPath(const std::vector<double>& starts, double T) {
    const std::optional<LayerSplit> path = CheapestPath(tables_, prices_, starts, T, options_.room);
    return path && Offer(*path);
  }

  // With busy time priced the fill, which gives devices as much as they can do by T, is only a
  // start: more time may be had for a better choice.
  void TryPaths(const std::vector<double>& starts, double T) {
    TryPath(starts, T);
    const bool priced = std::any_of(prices_.busy.begin(), prices_.busy.end(),
                                    [](double price) { return price > 0; });
    if (!priced) return;
    for (const double longer : {1.03, 1.1, 1.25, 1.6}) TryPath(starts, T * longer);
  }

  // Alike devices count from the first on: who of them takes part does not matter.
  Members MembersOf(const LayerSplit& ranges) const {
    Members members = 0;
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (ranges[d].empty()) continue;
      if (const int first = FirstOfClass(classes_[d], members, false); first >= 0) {
        members |= Bit(first);
      }
    }
    return members;
  }

  // Of the class, the first device that is a member or that is none; -1: there is none.
  int FirstOfClass(int of, Members members, bool member) const {
    for (int d = of; d < tables_.n_devices(); ++d) {
      if (classes_[d] == of && ((members & Bit(d)) != 0) == member) return d;
    }
    return -1;
  }

  // The lead sends first to those whose time is worth most per second of sending (Smith's rule).
  std::vector<int> Order(Members members) const {
    std::vector<int> order;
    for (int d = 1; d < tables_.n_devices(); ++d) {
      if ((members & Bit(d)) != 0) order.push_back(d);
    }
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return values_[a] * tables_.device(b).send_s > values_[b] * tables_.device(a).send_s;
    });
    return order;
  }

  std::vector<double> Starts(Members members, const std::vector<int>& order) const {
    std::vector<double> starts(tables_.n_devices(), kNever);
    double sent = 0, busy = 0;
    for (const int d : order) {
      sent += tables_.device(d).send_s;
      busy += tables_.device(d).send_busy_s;
      starts[d] = tables_.start(d) - tables_.device(d).send_s + sent;
    }
    if ((members & Bit(0)) != 0) starts[0] = tables_.start(0) + busy;
    return starts;
  }

  // Exactly these may take part. What their time is worth follows from the split, and the order of
  // sends from that, so a few times.
  double TryMembers(Members members) {
    double T = kNever;
    last_price_ = kNever;
    std::vector<int> order = Order(members);
    for (int i = 0; i < kOrders; ++i) {
      const double found = TryStarts(Starts(members, order));
      if (found == kNever) break;
      T = found;
      if (last_price_ > price_ * kFar) break;
      std::vector<int> next = Order(members);
      if (next == order) break;
      order.swap(next);
    }
    return T;
  }

  // Whoever takes part delays the others: again with the starts that follow from it, until that
  // gains nothing; at the time found, the exact choice of members.
  void Settle() {
    constexpr int kRounds = 4;
    for (int round = 0; round < kRounds; ++round) {
      const double before = price_;
      const Members members = MembersOf(*best_);
      const double T = TryMembers(members);
      if (T != kNever && round < 2) TryPaths(Starts(members, Order(members)), T);
      if (price_ >= before) break;
    }
  }

  // One member more or less, or another instead, while that helps.
  void ChangeMembers() {
    Members now = MembersOf(*best_);
    for (int move = 0; move < kMaxMoves; ++move) {
      const double before = price_;
      const std::vector<double> values = values_;
      const auto attempt = [&](Members members) {
        values_ = values;
        TryMembers(members);
        return price_ < before * (1 - kGain);
      };
      if (!TryNeighbours(now, attempt)) break;
      now = MembersOf(*best_);
    }
  }

  template <class Attempt>
  bool TryNeighbours(Members now, const Attempt& attempt) {
    std::vector<int> joins, leaves;
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (classes_[d] != d || !tables_.usable(d)) continue;
      if (const int next = FirstOfClass(d, now, false); next >= 0) joins.push_back(next);
      if (const int last = FirstOfClass(d, now, true); last >= 0) leaves.push_back(last);
    }
    for (const int d : leaves) {
      if (attempt(now & ~Bit(d))) return true;
    }
    for (const int d : joins) {
      if (attempt(now | Bit(d))) return true;
    }
    if (!options_.thorough) return false;
    for (const int out : leaves) {
      for (const int in : joins) {
        if (classes_[in] != classes_[out] && attempt((now | Bit(in)) & ~Bit(out))) return true;
      }
    }
    return false;
  }

  const LayerTables& tables_;
  const SplitPrices& prices_;
  const OracleOptions& options_;
  std::optional<LayerSplit> best_;
  double price_ = kNever;
  double last_price_ = kNever;  // of the last fill
  std::vector<double> values_;  // of time, by the last fill
  std::vector<int> classes_;    // the first device that differs in nothing
};

}  // namespace

std::optional<LayerSplit> BestLayerSplit(const LayerTables& tables, const SplitPrices& prices,
                                         const OracleOptions& options) {
  return Search(tables, prices, options).Run();
}

}  // namespace thermocline::placement
