#include "placement/solver/split_solver.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "base/units.h"
#include "placement/solver/column_generation.h"
#include "placement/solver/layer_fill.h"
#include "placement/solver/small_split.h"
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

// What column generation and the searches around it make of a problem.
class OptimalSolver {
 public:
  OptimalSolver(const SplitProblem& problem, const SplitOptions& options)
      : problem_(problem),
        options_(options),
        objective_(options.objective),
        incumbent_(problem, options.objective),
        prices_{options.objective.latency, std::vector<double>(problem.devices.size()),
                std::vector<double>(problem.devices.size())} {
    for (const SplitLayer& layer : problem.layers) tables_.emplace_back(problem, layer);
  }

  Result<SplitSolution> Run() {
    bound_ = WorkBound(problem_, objective_);
    const std::vector<Split> starts = Starts();
    const double value = objective_.Value(Evaluate(problem_, starts.front()));
    if (value > kLeastValue) Generate(starts, value);
    if (!incumbent_.found()) {
      return ResourceExhausted("no split found within the devices' memory and least parts");
    }
    if (options_.certify && incumbent_.best().value > bound_) LookAtAll();
    SplitSolution solution = incumbent_.best();
    solution.rounds = rounds_;
    solution.prices = std::move(prices_);
    solution.lower_bound = std::clamp(bound_, 0.0, solution.value);
    return solution;
  }

 private:
  // Baselines that fit, the best first: it sets the scale, and others much worse are left out.
  std::vector<Split> Starts() {
    std::vector<Split> starts;
    for (const SplitPolicy policy : kBaselines) {
      if (auto split = BaselineSplit(problem_, policy, options_.item_blocks)) {
        incumbent_.Offer(*split);
        starts.push_back(std::move(*split));
      }
    }
    if (incumbent_.found()) starts.insert(starts.begin(), incumbent_.best().split);
    if (!starts.empty()) return starts;
    for (size_t d = 0; d < problem_.devices.size(); ++d) {
      starts.push_back(AllOn(problem_, d));
      if (CheckSplit(problem_, starts.back()).ok()) incumbent_.Offer(starts.back());
    }
    return starts;
  }

  void Generate(const std::vector<Split>& starts, double value) {
    ColumnGeneration generation(problem_, tables_, objective_, value);
    for (const Split& start : starts) generation.Add(start);
    generation.Run(options_.max_rounds, options_.gap);
    rounds_ = generation.rounds();
    prices_ = generation.prices();
    if (options_.certify && options_.with_bound) bound_ = std::max(bound_, generation.Bound());
    // What was rounded and the best baseline may end in different places; both are improved.
    std::vector<Split> rough;
    if (incumbent_.found()) rough.push_back(incumbent_.best().split);
    if (auto split = generation.Round(); split && CheckSplit(problem_, *split).ok()) {
      rough.push_back(std::move(*split));
    }
    for (Split& split : rough) {
      incumbent_.Offer(split);
      incumbent_.Offer(
          Polish(problem_, tables_, objective_, prices_, std::move(split), options_.certify));
    }
  }

  // Few layers of few blocks leave nothing to bounds.
  void LookAtAll() {
    const SmallSplitResult all =
        SearchSmallSplits(problem_, tables_, objective_, prices_, incumbent_.best().value);
    if (all.better && CheckSplit(problem_, *all.better).ok()) incumbent_.Offer(*all.better);
    if (all.complete && options_.in_intervals) bound_ = incumbent_.best().value;
  }

  const SplitProblem& problem_;
  const SplitOptions& options_;
  const SplitObjective objective_;
  std::vector<LayerTables> tables_;
  Incumbent incumbent_;
  SplitPrices prices_;
  double bound_ = 0;
  int rounds_ = 0;
};

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
  if (options.policy == SplitPolicy::kOptimal) return OptimalSolver(problem, options).Run();
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
