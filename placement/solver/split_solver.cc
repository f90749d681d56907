#include "placement/solver/split_solver.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "base/units.h"
#include "placement/solver/column_generation.h"
#include "placement/solver/layer_fill.h"
#include "placement/solver/split_polish.h"

namespace thermocline::placement {
namespace {

constexpr SplitPolicy kBaselines[] = {SplitPolicy::kPipelineOnly, SplitPolicy::kProportional,
                                      SplitPolicy::kFrequencyGreedy, SplitPolicy::kPowerInfer};

// Nothing takes so few seconds; dividing by less would leave the range of doubles.
constexpr double kLeastValue = 1e-30;

uint64_t LayerBytes(const SplitLayer& layer) {
  return std::accumulate(layer.block_bytes.begin(), layer.block_bytes.end(), uint64_t{0});
}

Status CheckMemory(const SplitProblem& problem) {
  uint64_t need = 0, have = 0;
  for (const SplitLayer& layer : problem.layers) need += LayerBytes(layer);
  for (const SplitDevice& device : problem.devices) {
    if (!AddChecked(have, device.memory_bytes, &have)) return OkStatus();
  }
  if (need <= have) return OkStatus();
  return ResourceExhausted("memory of the group is too small for its neurons: need=" +
                           std::to_string(need) + " have=" + std::to_string(have));
}

// The best split found so far.
class Incumbent {
 public:
  Incumbent(const SplitProblem& problem, SplitObjective objective)
      : problem_(problem), objective_(objective) {}

  void Offer(Split split) {
    SplitCost cost = Evaluate(problem_, split);
    const double value = objective_.Value(cost);
    if (found_ && value >= best_.value) return;
    found_ = true;
    best_.split = std::move(split);
    best_.cost = std::move(cost);
    best_.value = value;
  }
  bool found() const { return found_; }
  const SplitSolution& best() const { return best_; }

 private:
  const SplitProblem& problem_;
  const SplitObjective objective_;
  bool found_ = false;
  SplitSolution best_;
};

// Every layer wholly on one device, whatever fits: columns that always exist.
Split AllOn(const SplitProblem& problem, size_t d) {
  Split split;
  for (const SplitLayer& layer : problem.layers) {
    split.emplace_back(problem.devices.size())[d] = {0, layer.n_blocks()};
  }
  return split;
}

Result<SplitSolution> SolveOptimal(const SplitProblem& problem, const SplitOptions& options) {
  std::vector<LayerTables> tables;
  for (const SplitLayer& layer : problem.layers) tables.emplace_back(problem, layer);
  Incumbent incumbent(problem, options.objective);
  std::vector<Split> starts;
  for (const SplitPolicy policy : kBaselines) {
    if (auto split = BaselineSplit(problem, policy, options.item_blocks)) {
      incumbent.Offer(*split);
      starts.push_back(std::move(*split));
    }
  }
  // The best first: it sets the scale, and others much worse are left out.
  if (incumbent.found()) starts.insert(starts.begin(), incumbent.best().split);
  if (starts.empty()) {
    for (size_t d = 0; d < problem.devices.size(); ++d) starts.push_back(AllOn(problem, d));
  }
  const double value = options.objective.Value(Evaluate(problem, starts.front()));
  const double work = WorkBound(problem, options.objective);
  double bound = work;
  int rounds = 0;
  if (value > kLeastValue) {
    ColumnGeneration generation(problem, tables, options.objective, value);
    for (const Split& start : starts) generation.Add(start);
    generation.Run(options.max_rounds, options.gap);
    rounds = generation.rounds();
    if (options.certify) bound = std::max(work, generation.Bound());
    if (auto split = generation.Round()) starts.push_back(std::move(*split));
    // What was rounded and the best baseline may end in different places; both are improved.
    std::vector<Split> polished;
    if (incumbent.found()) polished.push_back(incumbent.best().split);
    if (CheckSplit(problem, starts.back()).ok()) polished.push_back(starts.back());
    for (Split& split : polished) {
      incumbent.Offer(split);
      incumbent.Offer(
          Polish(problem, tables, options.objective, generation.prices(), std::move(split)));
    }
  }
  if (!incumbent.found()) {
    return ResourceExhausted("no split found within the devices' memory and least parts");
  }
  SplitSolution solution = incumbent.best();
  solution.rounds = rounds;
  solution.lower_bound = std::clamp(bound, 0.0, solution.value);
  return solution;
}

}  // namespace

double WorkBound(const SplitProblem& problem, SplitObjective objective) {
  const size_t n = problem.devices.size();
  // work = seconds of each block on the device that does it fastest; slow_d = the least factor by
  // which d is slower on any block. Then w_ld >= slow_d work_ld for any split.
  double work = 0, fixed = 0;
  std::vector<double> slow(n, kNever);
  for (const SplitLayer& layer : problem.layers) {
    fixed += layer.fixed_s;
    for (int k = 0; k < layer.n_blocks(); ++k) {
      const auto at = [&](size_t d) { return layer.seconds[d][k + 1] - layer.seconds[d][k]; };
      double least = at(0);
      for (size_t d = 1; d < n; ++d) least = std::min(least, at(d));
      if (least <= 0) continue;
      work += least;
      for (size_t d = 0; d < n; ++d) slow[d] = std::min(slow[d], at(d) / least);
    }
  }
  double speeds = 0;
  for (const double s : slow) speeds += s < kNever ? 1 / s : 0;
  const double lead = slow[0] < kNever ? fixed / slow[0] : 0;
  const double seconds = fixed + (speeds > 0 ? work / speeds : 0);
  const double bottleneck = std::max(fixed, speeds > 0 ? (work + lead) / speeds : 0);
  constexpr double kRounding = 1 - 1e-11;
  return kRounding * (objective.latency * seconds + (1 - objective.latency) * bottleneck);
}

Result<SplitSolution> SolveSplit(const SplitProblem& problem, const SplitOptions& options) {
  Status status = CheckProblem(problem);
  if (!status.ok()) return status;
  if (!(options.objective.latency >= 0 && options.objective.latency <= 1)) {
    return InvalidArgument("weight of latency outside 0 to 1: " +
                           std::to_string(options.objective.latency));
  }
  status = CheckMemory(problem);
  if (!status.ok()) return status;
  if (options.policy == SplitPolicy::kOptimal) return SolveOptimal(problem, options);
  std::optional<Split> split = BaselineSplit(problem, options.policy, options.item_blocks);
  if (!split) {
    return ResourceExhausted("policy finds no split within memory: policy=" +
                             std::string(SplitPolicyName(options.policy)));
  }
  SplitSolution solution;
  solution.cost = Evaluate(problem, *split);
  solution.split = std::move(*split);
  solution.value = options.objective.Value(solution.cost);
  solution.lower_bound = std::min(solution.value, WorkBound(problem, options.objective));
  return solution;
}

}  // namespace thermocline::placement
