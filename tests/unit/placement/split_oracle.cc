#include "tests/unit/placement/split_oracle.h"

#include <algorithm>
#include <limits>

namespace thermocline::placement {
namespace {

// All interval assignments of one layer, by giving blocks from `begin` on to devices not used yet.
void Enumerate(const SplitLayer& layer, int begin, LayerSplit& ranges,
               std::vector<LayerSplit>& all) {
  if (begin == layer.n_blocks()) {
    all.push_back(ranges);
    return;
  }
  for (size_t d = 0; d < ranges.size(); ++d) {
    if (!ranges[d].empty()) continue;
    for (int end = begin + 1; end <= layer.n_blocks(); ++end) {
      if (!layer.HasLeastPart(static_cast<int>(d), {begin, end})) continue;
      ranges[d] = {begin, end};
      Enumerate(layer, end, ranges, all);
    }
    ranges[d] = {};
  }
}

struct Choice {
  double seconds = 0;
  std::vector<double> busy_s;
  std::vector<uint64_t> bytes;
};

class BruteForce {
 public:
  BruteForce(const SplitProblem& problem, SplitObjective objective) : objective_(objective) {
    for (const SplitDevice& device : problem.devices) left_.push_back(device.memory_bytes);
    total_.busy_s.assign(left_.size(), 0);
    for (const SplitLayer& layer : problem.layers) {
      std::vector<LayerSplit> all;
      LayerSplit ranges(left_.size());
      Enumerate(layer, 0, ranges, all);
      const SplitProblem alone{problem.devices, {layer}};
      std::vector<Choice>& choices = choices_.emplace_back();
      for (const LayerSplit& split : all) {
        const SplitCost cost = Evaluate(alone, {split});
        choices.push_back({cost.seconds, cost.busy_s, cost.bytes});
      }
    }
  }

  double Run() {
    Descend(0);
    return best_;
  }

 private:
  void Descend(size_t l) {
    if (l == choices_.size()) {
      best_ = std::min(best_, objective_.Value(total_));
      return;
    }
    for (const Choice& choice : choices_[l]) {
      bool fits = true;
      for (size_t d = 0; d < left_.size(); ++d) fits &= choice.bytes[d] <= left_[d];
      if (!fits) continue;
      const SplitCost before = total_;
      total_.seconds += choice.seconds;
      for (size_t d = 0; d < left_.size(); ++d) {
        total_.busy_s[d] += choice.busy_s[d];
        left_[d] -= choice.bytes[d];
      }
      Descend(l + 1);
      for (size_t d = 0; d < left_.size(); ++d) left_[d] += choice.bytes[d];
      total_ = before;
    }
  }

  SplitObjective objective_;
  std::vector<uint64_t> left_;
  std::vector<std::vector<Choice>> choices_;
  SplitCost total_;
  double best_ = std::numeric_limits<double>::infinity();
};

}  // namespace

double BestValueByBruteForce(const SplitProblem& problem, SplitObjective objective) {
  return BruteForce(problem, objective).Run();
}

}  // namespace thermocline::placement
