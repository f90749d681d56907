#include "placement/solver/small_split.h"

#include <algorithm>
#include <utility>

namespace thermocline::placement {
namespace {

constexpr size_t kMaxSplits = 20000;  // of one layer
constexpr int kMaxNodes = 200000;     // of the search, some 50 ms
constexpr double kSame = 1e-12;       // of the value: not worth a look
constexpr double kRounding = 1e-11;   // of all that is added up to the dual

struct Choice {
  LayerSplit ranges;
  double excess = 0;  // of its price over the least one of its layer
  double seconds = 0;
  std::vector<double> busy_s, bytes;  // by device
};

// Every way to deal a layer's blocks out in intervals; false when there are too many.
class Enumeration {
 public:
  explicit Enumeration(const LayerTables& tables) : tables_(tables), ranges_(tables.n_devices()) {}

  bool Run() { return Deal(0); }
  std::vector<LayerSplit> Take() { return std::move(all_); }

 private:
  bool Deal(int begin) {
    if (begin == tables_.n_blocks()) {
      all_.push_back(ranges_);
      return all_.size() <= kMaxSplits;
    }
    for (int d = 0; d < tables_.n_devices(); ++d) {
      if (!ranges_[d].empty() || !tables_.usable(d)) continue;
      for (int end = tables_.LeastEnd(d, begin); end <= tables_.n_blocks(); ++end) {
        ranges_[d] = {begin, end};
        if (!Deal(end)) return false;
      }
      ranges_[d] = {};
    }
    return true;
  }

  const LayerTables& tables_;
  LayerSplit ranges_;
  std::vector<LayerSplit> all_;
};

class Search {
 public:
  Search(const SplitProblem& problem, const std::vector<LayerTables>& tables,
         SplitObjective objective, const SplitPrices& prices, double known_value)
      : problem_(problem),
        tables_(tables),
        objective_(objective),
        prices_(prices),
        best_value_(known_value),
        bytes_(problem.devices.size(), 0.0),
        busy_s_(problem.devices.size(), 0.0) {}

  SmallSplitResult Run() {
    SmallSplitResult result;
    if (!Prepare()) return result;
    Descend(0, dual_, 0);
    result.complete = nodes_ < kMaxNodes;
    if (best_.empty()) return result;
    result.better.emplace();
    for (size_t l = 0; l < best_.size(); ++l) {
      result.better->push_back(choices_[l][best_[l]].ranges);
    }
    return result;
  }

 private:
  bool Prepare() {
    for (size_t d = 0; d < problem_.devices.size(); ++d) {
      dual_ -= prices_.byte[d] * static_cast<double>(problem_.devices[d].memory_bytes);
    }
    margin_ = -dual_;
    for (const LayerTables& tables : tables_) {
      Enumeration splits(tables);
      if (!splits.Run()) return false;
      std::vector<Choice>& choices = choices_.emplace_back();
      for (LayerSplit& ranges : splits.Take()) choices.push_back(ChoiceOf(tables, ranges));
      if (choices.empty()) return false;
      std::sort(choices.begin(), choices.end(),
                [](const Choice& a, const Choice& b) { return a.excess < b.excess; });
      const double least = choices.front().excess;
      for (Choice& choice : choices) choice.excess -= least;
      dual_ += least;
      margin_ += least;
    }
    margin_ *= kRounding;
    return true;
  }

  Choice ChoiceOf(const LayerTables& tables, const LayerSplit& ranges) const {
    const SplitLayer& layer = tables.layer();
    Choice choice{.ranges = ranges,
                  .excess = tables.Price(prices_, ranges),
                  .seconds = layer.fixed_s + FfnSeconds(problem_, layer, ranges),
                  .busy_s = {},
                  .bytes = tables.Bytes(ranges)};
    for (size_t d = 0; d < ranges.size(); ++d) {
      choice.busy_s.push_back(BusySeconds(problem_, layer, ranges, d));
    }
    return choice;
  }

  // No split that goes on from here is worth less than `dual`.
  void Descend(size_t l, double dual, double seconds) {
    if (l == choices_.size()) {
      const double bottleneck = *std::max_element(busy_s_.begin(), busy_s_.end());
      const double value = objective_.latency * seconds + (1 - objective_.latency) * bottleneck;
      if (value >= best_value_ * (1 - kSame)) return;
      best_value_ = value;
      best_ = path_;
      return;
    }
    for (size_t c = 0; c < choices_[l].size() && nodes_ < kMaxNodes; ++c) {
      const Choice& choice = choices_[l][c];
      if (dual + choice.excess - margin_ >= best_value_ * (1 - kSame)) break;
      ++nodes_;
      if (!Fits(choice)) continue;
      Add(choice, 1);
      path_.push_back(c);
      Descend(l + 1, dual + choice.excess, seconds + choice.seconds);
      path_.pop_back();
      Add(choice, -1);
    }
  }

  bool Fits(const Choice& choice) const {
    for (size_t d = 0; d < bytes_.size(); ++d) {
      if (bytes_[d] + choice.bytes[d] > static_cast<double>(problem_.devices[d].memory_bytes)) {
        return false;
      }
    }
    return true;
  }

  void Add(const Choice& choice, double times) {
    for (size_t d = 0; d < bytes_.size(); ++d) {
      bytes_[d] += times * choice.bytes[d];
      busy_s_[d] += times * choice.busy_s[d];
    }
  }

  const SplitProblem& problem_;
  const std::vector<LayerTables>& tables_;
  const SplitObjective objective_;
  const SplitPrices& prices_;
  double best_value_;
  double dual_ = 0;
  double margin_ = 0;                         // by which rounding may have made the dual too large
  std::vector<std::vector<Choice>> choices_;  // by layer, by rising price
  std::vector<size_t> path_, best_;           // into choices_
  std::vector<double> bytes_, busy_s_;        // of the path, by device
  int nodes_ = 0;
};

}  // namespace

SmallSplitResult SearchSmallSplits(const SplitProblem& problem,
                                   const std::vector<LayerTables>& tables, SplitObjective objective,
                                   const SplitPrices& prices, double known_value) {
  return Search(problem, tables, objective, prices, known_value).Run();
}

}  // namespace thermocline::placement
