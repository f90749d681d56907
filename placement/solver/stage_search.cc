#include "placement/solver/stage_search.h"

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "placement/solver/cluster_bound.h"
#include "placement/solver/stage_estimate.h"
#include "placement/solver/stage_moves.h"
#include "placement/solver/stage_program.h"

namespace thermocline::placement {
namespace {

constexpr double kNoPlan = std::numeric_limits<double>::infinity();
constexpr int kMaxShifts = 24;  // of cuts, one layer at a time
// Layers times members that shifts may solve anew: large stages take seconds each.
constexpr int kMaxShiftWork = 4000;
// With more types than this sketches say which plans are solved, and only the best thoroughly.
constexpr size_t kFewTypes = 4;
constexpr size_t kMaxSketched = 3;  // plans solved then, of those of a dynamic program

class StageSearch {
 public:
  StageSearch(const StageModel& model, const StageSearchOptions& options)
      : model_(model), options_(options), sketch_(model) {
    for (int d = 0; d < model.n_devices(); ++d) {
      const auto is_alike = [&](int other) {
        return model.DeviceType(other) == model.DeviceType(d);
      };
      if (std::none_of(first_.begin(), first_.end(), is_alike)) first_.push_back(d);
    }
  }

  std::optional<StageSearchResult> Run() {
    const SplitPolicy policy = options_.inner.policy;
    if (policy == SplitPolicy::kOptimal || policy == SplitPolicy::kPipelineOnly) {
      OfferStages();
      // Estimates of stages with others before and after them may find room for none.
      if ((policy == SplitPolicy::kOptimal || !best_) && !stopped()) OfferSingles();
    }
    // Of many types moves have tried it, too.
    const bool is_tried = policy == SplitPolicy::kOptimal && !has_few_types() && best_;
    if (policy != SplitPolicy::kPipelineOnly && !is_tried && !stopped()) OfferWholeCluster();
    if (policy == SplitPolicy::kOptimal && best_ && !has_few_types() && !stopped()) {
      SolveThoroughly();
    }
    return best_;
  }
  bool has_few_types() const { return first_.size() <= kFewTypes; }
  bool stopped() const { return options_.stop != nullptr && *options_.stop; }

 private:
  // Groups up to a size in all combinations, then what moves make of the best of them.
  void OfferStages() {
    const bool may_share = options_.inner.policy == SplitPolicy::kOptimal;
    const StageProgram program(model_, options_, sketch_, may_share ? options_.max_group : 1);
    // By itself first, so that no pipeline without helpers is better than what is found.
    OfferAll(Promising(program.Run(1)));
    if (!may_share) return;
    OfferAll(Promising(program.Run(static_cast<size_t>(options_.max_group))));
    if (model_.n_devices() > 1) OfferMoved();
  }

  double Sketched(const std::vector<Cut>& cuts) {
    const double latency = options_.inner.objective.latency;
    double seconds = 0, busiest = 0;
    for (size_t s = 0; s < cuts.size(); ++s) {
      const Cut& cut = cuts[s];
      if (s > 0) seconds += model_.HopSeconds(cuts[s - 1].group[0], cut.group[0]);
      const StagePlace place = {cut.begin == 0, cut.end == model_.n_layer()};
      const StageEstimate stage = sketch_.Of(cut.group, cut.end - cut.begin, place, 1 - latency);
      seconds += stage.seconds;
      busiest = std::max(busiest, stage.bottleneck_s);
    }
    return latency * seconds + (1 - latency) * busiest;
  }

  // The most promising, where not all are solved.
  std::vector<std::vector<Cut>> Promising(std::vector<std::vector<Cut>> plans) {
    if (has_few_types() || plans.size() <= kMaxSketched) return plans;
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < plans.size(); ++i) order.emplace_back(Sketched(plans[i]), i);
    std::sort(order.begin(), order.end());
    std::vector<std::vector<Cut>> best;
    for (size_t i = 0; i < kMaxSketched; ++i) best.push_back(std::move(plans[order[i].second]));
    return best;
  }

  void SolveThoroughly() {
    is_thorough_ = true;
    solved_.clear();
    const std::vector<Cut> cuts = best_cuts_;
    Offer(cuts);
  }

  void OfferAll(const std::vector<std::vector<Cut>>& plans) {
    for (const std::vector<Cut>& cuts : plans) {
      if (!stopped()) Offer(cuts);
    }
    if (best_) Shift();
  }

  void OfferMoved() {
    std::vector<Groups> starts;
    if (best_) {
      Groups& groups = starts.emplace_back();
      for (const Cut& cut : best_cuts_) groups.push_back(cut.group);
    }
    Groups& singles = starts.emplace_back();
    for (int d = 0; d < std::min(model_.n_devices(), model_.n_layer()); ++d) singles.push_back({d});
    std::vector<std::vector<Cut>> plans;
    for (const Groups& start : starts) {
      plans.push_back(ImproveStages(sketch_, options_.inner.objective, start, options_.stop));
    }
    OfferAll(plans);
  }

  // --- exact solves
  const std::optional<SplitSolution>& Solve(const Cut& cut) {
    const auto known = solved_.find(cut);
    if (known != solved_.end()) return known->second;
    std::optional<SplitSolution>& answer = solved_[cut];
    const std::optional<SplitProblem> problem = model_.Problem(cut.begin, cut.end, cut.group);
    if (!problem) return answer;
    SplitOptions inner = options_.inner;
    inner.with_bound = options_.with_bound;
    inner.certify = is_thorough_ || has_few_types();
    Result<SplitSolution> solution = SolveSplit(*problem, inner);
    if (solution.ok()) answer = std::move(solution).value();
    return answer;
  }

  bool Offer(const std::vector<Cut>& cuts) {
    if (cuts.empty()) return false;
    StageSearchResult result;
    const SplitObjective objective = options_.inner.objective;
    double bound_seconds = 0, bound_bottleneck = 0;
    for (const Cut& cut : cuts) {
      const std::optional<SplitSolution>& solution = Solve(cut);
      if (!solution) return false;
      if (!result.stages.empty()) {
        const double hop = model_.HopSeconds(result.stages.back().group[0], cut.group[0]);
        result.seconds += hop;
        bound_seconds += hop * objective.latency;
      }
      result.seconds += solution->cost.seconds;
      result.bottleneck_s = std::max(result.bottleneck_s, solution->cost.bottleneck_s());
      bound_seconds += solution->lower_bound;
      bound_bottleneck = std::max(bound_bottleneck, solution->lower_bound);
      result.stages.push_back({cut.begin, cut.end, cut.group, *solution});
    }
    result.value =
        objective.latency * result.seconds + (1 - objective.latency) * result.bottleneck_s;
    // With the bottleneck in the objective a stage's bound has its own in it, which only one may
    // count.
    result.structure_bound =
        WithoutRounding(objective.latency >= 1 ? bound_seconds : bound_bottleneck, result.value);
    if (best_ && result.value >= best_->value) return false;
    best_ = std::move(result);
    best_cuts_ = cuts;
    return true;
  }

  // Nobody shares anything: whoever holds the model alone.
  void OfferSingles() {
    for (const int d : first_) Offer({{0, model_.n_layer(), {d}}});
  }

  std::vector<int> AllUnder(int lead) const {
    std::vector<int> group = {lead};
    for (int d = 0; d < model_.n_devices(); ++d) {
      if (d != lead) group.push_back(d);
    }
    return group;
  }

  // One stage of all devices, under the leads that seem best and under the one that is best for a
  // baseline, so that none of them is better.
  void OfferWholeCluster() {
    constexpr size_t kLeads = 2;
    std::vector<std::pair<double, std::vector<int>>> groups;
    for (const int lead : first_) {
      std::vector<int> group = AllUnder(lead);
      const double seconds = !has_few_types()
                                 ? sketch_.Of(group, model_.n_layer(), {true, true}, 0).seconds
                                 : EstimateGroup(model_, group, options_.inner).back().seconds;
      groups.emplace_back(seconds, std::move(group));
    }
    std::sort(groups.begin(), groups.end());
    groups.resize(std::min(groups.size(), kLeads));
    if (options_.inner.policy == SplitPolicy::kOptimal && has_few_types()) {
      if (const int lead = BestBaselineLead(); lead >= 0) groups.emplace_back(0, AllUnder(lead));
    }
    for (auto& [seconds, group] : groups) Offer({{0, model_.n_layer(), std::move(group)}});
  }

  // -1: no baseline fits.
  int BestBaselineLead() const {
    double best = kNoPlan;
    int lead = -1;
    for (const int candidate : first_) {
      const auto problem = model_.Problem(0, model_.n_layer(), AllUnder(candidate));
      if (!problem || !CheckProblem(*problem).ok()) continue;
      for (const SplitPolicy policy :
           {SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional, SplitPolicy::kPowerInfer}) {
        const std::optional<Split> split =
            BaselineSplit(*problem, policy, options_.inner.item_blocks);
        if (!split) continue;
        const double value = options_.inner.objective.Value(Evaluate(*problem, *split));
        if (value >= best) continue;
        best = value;
        lead = candidate;
      }
    }
    return lead;
  }

  // Moves the cut between neighbours by one layer while that helps.
  void Shift() {
    int work = 0;
    for (int shifts = 0; shifts < kMaxShifts && work < kMaxShiftWork && !stopped();) {
      bool better = false;
      for (size_t s = 0; s + 1 < best_cuts_.size() && !better && work < kMaxShiftWork; ++s) {
        for (const int by : {-1, 1}) {
          std::vector<Cut> cuts = best_cuts_;
          cuts[s].end += by;
          cuts[s + 1].begin += by;
          if (cuts[s].begin >= cuts[s].end || cuts[s + 1].begin >= cuts[s + 1].end) continue;
          ++shifts;
          for (const size_t at : {s, s + 1}) {
            work += (cuts[at].end - cuts[at].begin) * static_cast<int>(cuts[at].group.size());
          }
          if ((better = Offer(cuts))) break;
        }
      }
      if (!better) break;
    }
  }

  const StageModel& model_;
  const StageSearchOptions& options_;
  StageSketch sketch_;
  std::vector<int> first_;  // device of each type
  std::map<Cut, std::optional<SplitSolution>> solved_;
  std::optional<StageSearchResult> best_;
  std::vector<Cut> best_cuts_;
  bool is_thorough_ = false;
};

// Devices that got no range of a stage are not in its group.
void LeaveOutIdle(StageChoice& stage) {
  std::vector<int> group = {stage.group[0]};
  std::vector<size_t> kept = {0};
  for (size_t d = 1; d < stage.group.size(); ++d) {
    const auto works = [&](const LayerSplit& ranges) { return !ranges[d].empty(); };
    const Split& split = stage.solution.split;
    if (std::none_of(split.begin(), split.end(), works)) continue;
    group.push_back(stage.group[d]);
    kept.push_back(d);
  }
  for (LayerSplit& ranges : stage.solution.split) {
    LayerSplit fewer;
    for (const size_t d : kept) fewer.push_back(ranges[d]);
    ranges = std::move(fewer);
  }
  SplitCost& cost = stage.solution.cost;
  for (size_t i = 0; i < kept.size(); ++i) {
    cost.busy_s[i] = cost.busy_s[kept[i]];
    cost.bytes[i] = cost.bytes[kept[i]];
  }
  cost.busy_s.resize(kept.size());
  cost.bytes.resize(kept.size());
  stage.group = std::move(group);
}

}  // namespace

uint64_t StageModel::MostMemory(int device) const {
  const int middle = n_layer() / 2;
  uint64_t most = 0;
  if (const auto lead = Problem(middle, middle + 1, {device})) {
    most = lead->devices[0].memory_bytes;
  }
  for (int lead = 0; lead < n_devices(); ++lead) {
    if (lead == device) continue;
    const auto helper = Problem(middle, middle + 1, {lead, device});
    if (helper) return std::max(most, helper->devices[1].memory_bytes);
  }
  return most;
}

Result<StageSearchResult> SearchStages(const StageModel& model, const StageSearchOptions& options) {
  if (model.n_layer() < 1 || model.n_devices() < 1 ||
      model.n_devices() > static_cast<int>(kMaxSplitDevices) || options.max_group < 1) {
    return InvalidArgument(
        "layers, devices or group size out of range: n_layer=" + std::to_string(model.n_layer()) +
        " n_devices=" + std::to_string(model.n_devices()) +
        " max_group=" + std::to_string(options.max_group));
  }
  StageSearch search(model, options);
  std::optional<StageSearchResult> result = search.Run();
  if (search.stopped()) return Aborted("planning was stopped");
  if (!result) return ResourceExhausted("no plan of stages fits the devices' memory");
  for (StageChoice& stage : result->stages) LeaveOutIdle(stage);
  if (!options.with_bound) return std::move(*result);
  result->lower_bound =
      WithoutRounding(ClusterBound(model, options.inner.objective, options.stop), result->value);
  if (search.stopped()) return Aborted("planning was stopped");
  return std::move(*result);
}

}  // namespace thermocline::placement
