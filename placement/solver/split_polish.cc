#include "placement/solver/split_polish.h"

#include <algorithm>
#include <utility>

#include "placement/solver/layer_fill.h"
#include "placement/solver/layer_oracle.h"

namespace thermocline::placement {
namespace {

// Full prices first, so that layers free what others need more; at the end memory is worth nothing
// but its order.
constexpr double kPriceFactors[] = {1.0, 0.3, 1e-6, 1e-6};

constexpr double kGain = 1e-6;         // of the value: smaller gains end the search
constexpr size_t kMaxPairMoves = 400;  // whose pairs are all tried
constexpr int kMaxShiftRounds = 60;

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

  // Small changes of one layer, and of two layers at a time while there are few enough: what one
  // frees the other takes. Until none helps.
  void Shift(bool pairs) {
    split_ = best_;
    cost_ = Evaluate(problem_, split_);
    for (int round = 0; round < kMaxShiftRounds; ++round) {
      if (!ShiftOne() && !(pairs && ShiftTwo())) break;
    }
    best_ = split_;
    best_value_ = objective_.Value(cost_);
  }

  Split Take() { return std::move(best_); }

 private:
  bool HasLeastParts(size_t l, const LayerSplit& ranges) const {
    for (size_t d = 0; d < ranges.size(); ++d) {
      if (!problem_.layers[l].HasLeastPart(static_cast<int>(d), ranges[d])) return false;
    }
    return true;
  }

  // Every device pair of a layer: what one has to the other, its parts exchanged, an end moved by
  // one block over the border between them or split off for a device that has none.
  std::vector<LayerSplit> Neighbours(size_t l) const {
    const LayerSplit& now = split_[l];
    std::vector<LayerSplit> all;
    const auto add = [&](size_t a, BlockRange of_a, size_t b, BlockRange of_b) {
      LayerSplit ranges = now;
      ranges[a] = of_a;
      ranges[b] = of_b;
      if (HasLeastParts(l, ranges)) all.push_back(std::move(ranges));
    };
    for (size_t a = 0; a < now.size(); ++a) {
      if (now[a].empty()) continue;
      const auto [begin, end] = now[a];
      for (size_t b = 0; b < now.size(); ++b) {
        if (a == b) continue;
        add(a, now[b], b, now[a]);
        if (now[b].empty()) {
          const LayerTables& tables = tables_[l];
          const int d = static_cast<int>(b);
          for (const int cut : {begin + 1, tables.LeastEnd(d, begin),
                                begin + end - tables.LastBegin(d, end), (begin + end) / 2}) {
            if (cut <= begin || cut >= end) continue;
            add(a, {cut, end}, b, {begin, cut});
            add(a, {begin, begin + end - cut}, b, {begin + end - cut, end});
          }
        } else if (now[b].end == begin) {
          add(a, {}, b, {now[b].begin, end});
          add(a, {begin + 1, end}, b, {now[b].begin, begin + 1});
        } else if (now[b].begin == end) {
          add(a, {}, b, {begin, now[b].end});
          add(a, {begin, end - 1}, b, {end - 1, now[b].end});
        }
      }
    }
    return all;
  }

  // Another split of one layer, and what it adds to the cost.
  struct Change {
    size_t layer = 0;
    LayerSplit ranges;
    double seconds = 0;
    std::vector<double> busy_s, bytes;  // by device
  };

  Change ChangeTo(size_t l, const LayerSplit& ranges) const {
    const SplitLayer& layer = problem_.layers[l];
    const LayerSplit& now = split_[l];
    Change change{.layer = l, .ranges = ranges, .busy_s = {}, .bytes = tables_[l].Bytes(ranges)};
    change.seconds = FfnSeconds(problem_, layer, ranges) - FfnSeconds(problem_, layer, now);
    const std::vector<double> before = tables_[l].Bytes(now);
    for (size_t d = 0; d < ranges.size(); ++d) {
      change.busy_s.push_back(BusySeconds(problem_, layer, ranges, d) -
                              BusySeconds(problem_, layer, now, d));
      change.bytes[d] -= before[d];
    }
    return change;
  }

  // The objective after one change, or two of different layers; kNever when memory is exceeded.
  double ValueWith(const Change& change, const Change* other = nullptr) const {
    double bottleneck = 0;
    for (size_t d = 0; d < cost_.bytes.size(); ++d) {
      double bytes = static_cast<double>(cost_.bytes[d]) + change.bytes[d];
      double busy = cost_.busy_s[d] + change.busy_s[d];
      if (other) {
        bytes += other->bytes[d];
        busy += other->busy_s[d];
      }
      if (bytes > static_cast<double>(problem_.devices[d].memory_bytes)) return kNever;
      bottleneck = std::max(bottleneck, busy);
    }
    const double seconds = cost_.seconds + change.seconds + (other ? other->seconds : 0);
    return objective_.latency * seconds + (1 - objective_.latency) * bottleneck;
  }

  bool Helps(const Change& change, const Change* other = nullptr) const {
    return ValueWith(change, other) < objective_.Value(cost_) * (1 - kGain);
  }

  void Apply(const Change& change) {
    split_[change.layer] = change.ranges;
    cost_.seconds += change.seconds;
    for (size_t d = 0; d < cost_.bytes.size(); ++d) {
      cost_.busy_s[d] += change.busy_s[d];
      cost_.bytes[d] = static_cast<uint64_t>(static_cast<double>(cost_.bytes[d]) + change.bytes[d]);
    }
  }

  bool ShiftOne() {
    bool any = false;
    for (size_t l = 0; l < split_.size(); ++l) {
      for (const LayerSplit& ranges : Neighbours(l)) {
        const Change change = ChangeTo(l, ranges);
        if (!Helps(change)) continue;
        Apply(change);
        any = true;
        break;
      }
    }
    return any;
  }

  bool ShiftTwo() {
    std::vector<Change> changes;
    for (size_t l = 0; l < split_.size(); ++l) {
      for (const LayerSplit& ranges : Neighbours(l)) changes.push_back(ChangeTo(l, ranges));
      if (changes.size() > kMaxPairMoves) return false;
    }
    for (size_t i = 0; i < changes.size(); ++i) {
      for (size_t j = i + 1; j < changes.size(); ++j) {
        if (changes[i].layer == changes[j].layer || !Helps(changes[i], &changes[j])) continue;
        Apply(changes[i]);
        Apply(changes[j]);
        return true;
      }
    }
    return false;
  }

  void Improve(size_t l, const SplitPrices& prices) {
    std::vector<double> room = tables_[l].Bytes(split_[l]);
    for (size_t d = 0; d < room.size(); ++d) {
      room[d] += static_cast<double>(problem_.devices[d].memory_bytes) -
                 static_cast<double>(cost_.bytes[d]);
    }
    const std::optional<LayerSplit> ranges =
        BestLayerSplit(tables_[l], prices, {.room = room, .known = &split_[l]});
    if (!ranges || *ranges == split_[l]) return;
    const Change change = ChangeTo(l, *ranges);
    double worth = ValueWith(change) - objective_.Value(cost_);
    for (size_t d = 0; d < room.size(); ++d) worth += prices.byte[d] * change.bytes[d];
    if (worth < 0) Apply(change);
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
             SplitObjective objective, const SplitPrices& prices, Split split, bool pairs) {
  Polisher polisher(problem, tables, objective, std::move(split));
  for (const double factor : kPriceFactors) {
    SplitPrices scaled = prices;
    for (double& price : scaled.byte) price *= factor;
    polisher.Pass(scaled);
  }
  polisher.Shift(pairs);
  return polisher.Take();
}

}  // namespace thermocline::placement
