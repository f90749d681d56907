#include "placement/solver/layer_oracle.h"

#include <algorithm>

#include "placement/solver/layer_fill.h"
#include "placement/solver/layer_path.h"

namespace thermocline::placement {
namespace {

class Search {
 public:
  Search(const LayerTables& tables, const SplitPrices& prices, const std::vector<double>& room)
      : tables_(tables), prices_(prices), room_(room) {}

  std::optional<LayerSplit> Run() {
    std::vector<double> alone(tables_.n_devices());
    for (int d = 0; d < tables_.n_devices(); ++d) alone[d] = tables_.start(d);
    if (prices_.latency > 0) TryTimes(alone);
    if (prices_.latency == 0 || !best_) TryPath(alone, kNever);
    if (prices_.latency > 0 && best_) {
      Settle();
      while (DropOne()) continue;
    }
    return best_;
  }

 private:
  bool Offer(const LayerSplit& ranges) {
    const double price = tables_.Price(prices_, ranges);
    if (price >= price_) return false;
    price_ = price;
    best_ = ranges;
    return true;
  }

  // Returns the best time, kNever when there is none.
  double TryTimes(const std::vector<double>& starts) {
    LayerFill fill(tables_, prices_, starts, room_);
    const double T = fill.Search(0, fill.latest()).T;
    if (T == kNever || fill.CostAt(T) == kNever) return kNever;
    Offer(fill.ranges());
    return T;
  }

  bool TryPath(const std::vector<double>& starts, double T) {
    const std::optional<LayerSplit> path = CheapestPath(tables_, prices_, starts, T, room_);
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

  // Starts when exactly the members of the best split but `without` take part: the lead sends to
  // the fastest first, whose delay would cost most work.
  std::vector<double> Starts(int without) const {
    std::vector<int> members;
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (d != without && !(*best_)[d].empty()) members.push_back(d);
    }
    std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
      return tables_.layer().seconds[a].back() < tables_.layer().seconds[b].back();
    });
    std::vector<double> starts(tables_.n_devices(), kNever);
    double sent = 0;
    for (const int d : members) {
      sent += tables_.device(d).send_s;
      starts[d] = tables_.start(d) - tables_.device(d).send_s + sent;
    }
    return starts;
  }

  // Whoever takes part delays the others: again with the starts that follow from it, until that
  // gains nothing; at the time found, the exact choice of members.
  void Settle() {
    constexpr int kRounds = 4;
    for (int round = 0; round < kRounds; ++round) {
      const double before = price_;
      const std::vector<double> starts = Starts(-1);
      const double T = TryTimes(starts);
      if (T != kNever && round < 2) TryPaths(starts, T);
      if (price_ >= before) break;
    }
  }

  bool DropOne() {
    const double before = price_;
    const LayerSplit from = *best_;
    std::vector<int> members;
    for (int d = 1; d < tables_.n_devices(); ++d) {
      if (!from[d].empty()) members.push_back(d);
    }
    // The smallest part is the likeliest not to be worth its message; a few are tried.
    std::stable_sort(members.begin(), members.end(), [&](int a, int b) {
      return tables_.seconds(a, from[a].begin, from[a].end) <
             tables_.seconds(b, from[b].begin, from[b].end);
    });
    constexpr size_t kTries = 4;
    members.resize(std::min(members.size(), kTries));
    for (const int d : members) {
      TryTimes(Starts(d));
      if (price_ < before) return true;
    }
    return false;
  }

  const LayerTables& tables_;
  const SplitPrices& prices_;
  const std::vector<double>& room_;
  std::optional<LayerSplit> best_;
  double price_ = kNever;
};

}  // namespace

std::optional<LayerSplit> BestLayerSplit(const LayerTables& tables, const SplitPrices& prices,
                                         const std::vector<double>& room) {
  return Search(tables, prices, room).Run();
}

}  // namespace thermocline::placement
