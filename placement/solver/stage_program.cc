#include "placement/solver/stage_program.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace thermocline::placement {
namespace {

constexpr double kNoPlan = std::numeric_limits<double>::infinity();
constexpr size_t kMaxKinds = 160;  // kinds of groups, the smaller groups first
constexpr size_t kMaxSolved = 40;  // of them, whose estimates are solves; of more, sketches
constexpr size_t kBeam = 64;       // states kept per layer
constexpr int kCaps = 16;          // bottlenecks tried when throughput counts

}  // namespace

StageProgram::StageProgram(const StageModel& model, const StageSearchOptions& options,
                           StageSketch& sketch, int max_group)
    : model_(model), options_(options), sketch_(sketch) {
  for (int d = 0; d < model.n_devices(); ++d) {
    const int type = model.DeviceType(d);
    auto found = std::find(types_.begin(), types_.end(), type);
    if (found == types_.end()) {
      found = types_.insert(found, type);
      devices_.emplace_back();
    }
    devices_[found - types_.begin()].push_back(d);
  }
  MakeKinds(max_group);
}

void StageProgram::MakeKinds(int max_group) {
  std::vector<std::vector<int>> level;
  for (int t = 0; t < static_cast<int>(types_.size()); ++t) level.push_back({t});
  for (int size = 1; size <= max_group && kinds_.size() < kMaxKinds; ++size) {
    std::vector<std::vector<int>> next;
    for (const std::vector<int>& group : level) {
      if (kinds_.size() == kMaxKinds) break;
      if (Devices(group, {})) kinds_.push_back({group, {}});
      const int from = group.size() > 1 ? group.back() : 0;
      for (int t = from; t < static_cast<int>(types_.size()); ++t) {
        std::vector<int> larger = group;
        larger.push_back(t);
        if (Devices(larger, {})) next.push_back(std::move(larger));
      }
    }
    level.swap(next);
  }
  const bool are_few = kinds_.size() <= kMaxSolved;
  for (Kind& kind : kinds_) {
    if (stopped()) return;
    const std::vector<int> devices = *Devices(kind.types, {});
    kind.estimates = are_few ? EstimateGroup(model_, devices, options_.inner) : Sketched(devices);
  }
}

std::vector<StageEstimate> StageProgram::Sketched(const std::vector<int>& group) const {
  const int n = model_.n_layer();
  const double evenness = 1 - options_.inner.objective.latency;
  std::vector<StageEstimate> estimates(static_cast<size_t>(n) + 1, {kNoPlan, kNoPlan});
  for (int k = 1; k <= n; ++k) {
    StageEstimate& estimate = estimates[static_cast<size_t>(k)];
    estimate = sketch_.Of(group, k, {}, evenness);
    if (estimate.seconds == kNoPlan) break;
  }
  return estimates;
}

// The next unused devices of these types; nullopt when there are not as many.
std::optional<std::vector<int>> StageProgram::Devices(const std::vector<int>& group,
                                                      std::vector<int> used) const {
  used.resize(types_.size(), 0);
  std::vector<int> devices;
  for (const int t : group) {
    if (used[t] >= static_cast<int>(devices_[t].size())) return std::nullopt;
    devices.push_back(devices_[t][used[t]++]);
  }
  return devices;
}

// Bottlenecks to try: none for latency alone; else from what all devices could reach to what one
// stage needs.
std::vector<double> StageProgram::Caps() const {
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

std::vector<Cut> StageProgram::Program(double cap, size_t max_group) const {
  const int n = model_.n_layer();
  std::vector<States> states(n + 1);
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

double StageProgram::Estimated(const State& state) const {
  const double latency = options_.inner.objective.latency;
  // Equal bottlenecks: the shorter pipeline.
  return std::max(latency, 1e-6) * state.seconds + (1 - latency) * state.bottleneck_s;
}

std::vector<const StageProgram::State*> StageProgram::Best(const States& states) const {
  std::vector<const State*> best;
  for (const auto& [used, state] : states) best.push_back(&state);
  std::stable_sort(best.begin(), best.end(),
                   [&](const State* a, const State* b) { return Estimated(*a) < Estimated(*b); });
  best.resize(std::min(best.size(), kBeam));
  return best;
}

void StageProgram::Extend(int begin, const State& state, const Kind& kind, double cap,
                          std::vector<States>& states) const {
  const std::optional<std::vector<int>> devices = Devices(kind.types, state.used);
  if (!devices) return;
  std::vector<int> used = state.used;
  for (const int t : kind.types) ++used[t];
  const double hop = state.last_lead < 0 ? 0 : model_.HopSeconds(state.last_lead, devices->front());
  for (int end = begin + 1; end <= model_.n_layer(); ++end) {
    const StageEstimate& estimate = kind.estimates[end - begin];
    if (estimate.seconds == kNoPlan || estimate.bottleneck_s > cap) break;
    State next;
    next.seconds = state.seconds + hop + estimate.seconds;
    next.bottleneck_s = std::max(state.bottleneck_s, estimate.bottleneck_s);
    State& known = states[end][used];
    if (!known.stages.empty() && Estimated(known) <= Estimated(next)) continue;
    next.used = used;
    next.last_lead = devices->front();
    next.stages = state.stages;
    next.stages.emplace_back(end, *devices);
    known = std::move(next);
  }
}

std::vector<std::vector<Cut>> StageProgram::Run(size_t max_group) const {
  std::vector<std::vector<Cut>> plans;
  for (const double cap : Caps()) {
    if (stopped()) break;
    std::vector<Cut> cuts = Program(cap, max_group);
    if (!cuts.empty()) plans.push_back(std::move(cuts));
  }
  return plans;
}

}  // namespace thermocline::placement
