#include "placement/solver/stage_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "placement/solver/cluster_bound.h"
#include "placement/solver/stage_estimate.h"

namespace thermocline::placement {
namespace {

constexpr double kNoPlan = std::numeric_limits<double>::infinity();
constexpr size_t kMaxKinds = 160;  // kinds of groups estimated, the smaller groups first
constexpr size_t kBeam = 64;       // states kept per layer
constexpr int kCaps = 16;          // bottlenecks tried when throughput counts
constexpr int kMaxShifts = 24;     // of cuts, one layer at a time

// A lead type and helper types, as representative devices, and what stages on it would need.
struct Kind {
  std::vector<int> types;  // the lead's first, then rising
  std::vector<StageEstimate> estimates;
};

struct State {
  double seconds = kNoPlan;
  double bottleneck_s = 0;
  std::vector<int> used;  // devices by type
  int last_lead = -1;
  std::vector<std::pair<int, std::vector<int>>> stages;  // end, group
};

struct Cut {
  int begin = 0;
  int end = 0;
  std::vector<int> group;
  friend auto operator<=>(const Cut&, const Cut&) = default;
};

class StageSearch {
 public:
  StageSearch(const StageModel& model, const StageSearchOptions& options)
      : model_(model), options_(options) {
    for (int d = 0; d < model.n_devices(); ++d) {
      const int type = model.DeviceType(d);
      auto found = std::find(types_.begin(), types_.end(), type);
      if (found == types_.end()) {
        found = types_.insert(found, type);
        devices_.emplace_back();
      }
      devices_[found - types_.begin()].push_back(d);
    }
  }

  std::optional<StageSearchResult> Run() {
    const SplitPolicy policy = options_.inner.policy;
    if (policy == SplitPolicy::kOptimal || policy == SplitPolicy::kPipelineOnly) {
      MakeKinds(policy == SplitPolicy::kPipelineOnly ? 1 : options_.max_group);
      // By itself first, so that no pipeline without helpers is better than what is found.
      OfferStages(1);
      if (policy == SplitPolicy::kOptimal) OfferStages(static_cast<size_t>(options_.max_group));
    }
    if (policy == SplitPolicy::kOptimal) OfferSingles();
    if (policy != SplitPolicy::kPipelineOnly && !stopped()) OfferWholeCluster();
    return best_;
  }
  bool stopped() const { return options_.stop != nullptr && *options_.stop; }

 private:
  // --- kinds of groups
  void MakeKinds(int max_group) {
    std::vector<std::vector<int>> level;
    for (int t = 0; t < static_cast<int>(types_.size()); ++t) level.push_back({t});
    for (int size = 1; size <= max_group && kinds_.size() < kMaxKinds; ++size) {
      std::vector<std::vector<int>> next;
      for (const std::vector<int>& group : level) {
        if (kinds_.size() == kMaxKinds || stopped()) break;
        AddKind(group);
        const int from = group.size() > 1 ? group.back() : 0;
        for (int t = from; t < static_cast<int>(types_.size()); ++t) {
          std::vector<int> larger = group;
          larger.push_back(t);
          if (Devices(larger, {})) next.push_back(std::move(larger));
        }
      }
      level.swap(next);
    }
  }

  void AddKind(const std::vector<int>& group) {
    const std::optional<std::vector<int>> devices = Devices(group, {});
    if (!devices) return;
    kinds_.push_back({group, EstimateGroup(model_, *devices, options_.inner)});
  }

  // The next unused devices of these types; nullopt when there are not as many.
  std::optional<std::vector<int>> Devices(const std::vector<int>& group,
                                          std::vector<int> used) const {
    used.resize(types_.size(), 0);
    std::vector<int> devices;
    for (const int t : group) {
      if (used[t] >= static_cast<int>(devices_[t].size())) return std::nullopt;
      devices.push_back(devices_[t][used[t]++]);
    }
    return devices;
  }

  // --- dynamic program over layers
  // Bottlenecks to try: none for latency alone; else from what all devices could reach to what one
  // stage needs.
  std::vector<double> Caps() const {
    std::vector<double> caps = {kNoPlan};
    if (options_.inner.objective.latency >= 1) return caps;
    double high = 0;
    double low = kNoPlan;
    for (const Kind& kind : kinds_) {
      for (size_t k = 1; k < kind.estimates.size(); ++k) {
        const double b = kind.estimates[k].bottleneck_s;
        if (b == kNoPlan) break;
        high = std::max(high, b);
        low = std::min(low, b / static_cast<double>(k) * model_.n_layer() / model_.n_devices());
      }
    }
    for (int c = 0; c < kCaps && low < high; ++c) {
      caps.push_back(low * std::pow(high / low, static_cast<double>(c) / kCaps));
    }
    return caps;
  }

  // Stages of groups up to a size, with their cuts moved.
  void OfferStages(size_t max_group) {
    for (const double cap : Caps()) {
      if (!stopped()) Offer(Program(cap, max_group));
    }
    if (best_) Shift();
  }

  std::vector<Cut> Program(double cap, size_t max_group) const {
    const int n = model_.n_layer();
    std::vector<std::map<std::vector<int>, State>> states(n + 1);
    State start;
    start.seconds = 0;
    start.used.assign(types_.size(), 0);
    states[0][start.used] = start;
    for (int begin = 0; begin < n; ++begin) {
      for (const State* state : Best(states[begin])) {
        for (const Kind& kind : kinds_) {
          if (kind.types.size() <= max_group) Extend(begin, *state, kind, cap, states);
        }
      }
    }
    const std::vector<const State*> ends = Best(states[n]);
    std::vector<Cut> cuts;
    if (ends.empty()) return cuts;
    int begin = 0;
    for (const auto& [end, group] : ends.front()->stages) {
      cuts.push_back({begin, end, group});
      begin = end;
    }
    return cuts;
  }

  double Estimated(const State& state) const {
    const double latency = options_.inner.objective.latency;
    // Equal bottlenecks: the shorter pipeline.
    return std::max(latency, 1e-6) * state.seconds + (1 - latency) * state.bottleneck_s;
  }

  std::vector<const State*> Best(const std::map<std::vector<int>, State>& states) const {
    std::vector<const State*> best;
    for (const auto& [used, state] : states) best.push_back(&state);
    std::stable_sort(best.begin(), best.end(),
                     [&](const State* a, const State* b) { return Estimated(*a) < Estimated(*b); });
    best.resize(std::min(best.size(), kBeam));
    return best;
  }

  void Extend(int begin, const State& state, const Kind& kind, double cap,
              std::vector<std::map<std::vector<int>, State>>& states) const {
    const std::optional<std::vector<int>> devices = Devices(kind.types, state.used);
    if (!devices) return;
    std::vector<int> used = state.used;
    for (const int t : kind.types) ++used[t];
    const double hop =
        state.last_lead < 0 ? 0 : model_.HopSeconds(state.last_lead, devices->front());
    for (int end = begin + 1; end <= model_.n_layer(); ++end) {
      const StageEstimate& estimate = kind.estimates[end - begin];
      if (estimate.seconds == kNoPlan || estimate.bottleneck_s > cap) break;
      State next;
      next.seconds = state.seconds + hop + estimate.seconds;
      next.bottleneck_s = std::max(state.bottleneck_s, estimate.bottleneck_s);
      State& known = states[end][used];
      if (known.seconds < kNoPlan && Estimated(known) <= Estimated(next)) continue;
      next.used = used;
      next.last_lead = devices->front();
      next.stages = state.stages;
      next.stages.emplace_back(end, *devices);
      known = std::move(next);
    }
  }

  // --- exact solves
  const std::optional<SplitSolution>& Solve(const Cut& cut) {
    const auto known = solved_.find(cut);
    if (known != solved_.end()) return known->second;
    std::optional<SplitSolution>& answer = solved_[cut];
    const std::optional<SplitProblem> problem = model_.Problem(cut.begin, cut.end, cut.group);
    if (!problem) return answer;
    Result<SplitSolution> solution = SolveSplit(*problem, options_.inner);
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
        std::min(result.value, objective.latency >= 1 ? bound_seconds : bound_bottleneck);
    if (best_ && result.value >= best_->value) return false;
    best_ = std::move(result);
    best_cuts_ = cuts;
    return true;
  }

  // Nobody shares anything: whoever holds the model alone.
  void OfferSingles() {
    for (const std::vector<int>& devices : devices_) {
      Offer({{0, model_.n_layer(), {devices.front()}}});
    }
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
    for (const std::vector<int>& devices : devices_) {
      std::vector<int> group = AllUnder(devices.front());
      const double seconds = EstimateGroup(model_, group, options_.inner).back().seconds;
      groups.emplace_back(seconds, std::move(group));
    }
    std::sort(groups.begin(), groups.end());
    groups.resize(std::min(groups.size(), kLeads));
    if (options_.inner.policy == SplitPolicy::kOptimal) {
      if (const int lead = BestBaselineLead(); lead >= 0) groups.emplace_back(0, AllUnder(lead));
    }
    for (auto& [seconds, group] : groups) Offer({{0, model_.n_layer(), std::move(group)}});
  }

  // -1: no baseline fits.
  int BestBaselineLead() const {
    double best = kNoPlan;
    int lead = -1;
    for (const std::vector<int>& devices : devices_) {
      const auto problem = model_.Problem(0, model_.n_layer(), AllUnder(devices.front()));
      if (!problem || !CheckProblem(*problem).ok()) continue;
      for (const SplitPolicy policy :
           {SplitPolicy::kFrequencyGreedy, SplitPolicy::kProportional, SplitPolicy::kPowerInfer}) {
        const std::optional<Split> split =
            BaselineSplit(*problem, policy, options_.inner.item_blocks);
        if (!split) continue;
        const double value = options_.inner.objective.Value(Evaluate(*problem, *split));
        if (value >= best) continue;
        best = value;
        lead = devices.front();
      }
    }
    return lead;
  }

  // Moves the cut between neighbours by one layer while that helps.
  void Shift() {
    for (int shifts = 0; shifts < kMaxShifts && !stopped();) {
      bool better = false;
      for (size_t s = 0; s + 1 < best_cuts_.size() && !better; ++s) {
        for (const int by : {-1, 1}) {
          std::vector<Cut> cuts = best_cuts_;
          cuts[s].end += by;
          cuts[s + 1].begin += by;
          if (cuts[s].begin >= cuts[s].end || cuts[s + 1].begin >= cuts[s + 1].end) continue;
          ++shifts;
          if ((better = Offer(cuts))) break;
        }
      }
      if (!better) break;
    }
  }

  const StageModel& model_;
  const StageSearchOptions& options_;
  std::vector<int> types_;
  std::vector<std::vector<int>> devices_;  // by type, in the order of use
  std::vector<Kind> kinds_;
  std::map<Cut, std::optional<SplitSolution>> solved_;
  std::optional<StageSearchResult> best_;
  std::vector<Cut> best_cuts_;
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
  const StageChoice& longest = *std::max_element(
      result->stages.begin(), result->stages.end(),
      [](const StageChoice& a, const StageChoice& b) { return a.end - a.begin < b.end - b.begin; });
  result->lower_bound =
      std::min(result->value, ClusterBound(model, options.inner.objective, longest.group.front()));
  return std::move(*result);
}

}  // namespace thermocline::placement
