#include "placement/solver/stage_program.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace thermocline::placement {
namespace {

constexpr double kNoPlan = std::numeric_limits<double>::infinity();
constexpr size_t kMaxKinds = 160;  // kinds of groups, the smaller groups first
constexpr size_t kMaxSolved = 40;  // of them, whose estimates are solves; of more, sketches
constexpr size_t kBeam = 64;       // states kept per layer
constexpr int kCaps = 16;          // bottlenecks tried when throughput counts

static_assert(kMaxSplitDevices <= 64);
// As Kind::At counts them.
constexpr StagePlace kPlaces[] = {{false, false}, {true, false}, {false, true}, {true, true}};
constexpr uint64_t Bit(int device) { return uint64_t{1} << device; }

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
  for (const std::vector<int>& devices : devices_) {
    uint64_t& bits = type_bits_.emplace_back(0);
    for (const int d : devices) bits |= Bit(d);
  }
  for (int from = 0; from < model.n_devices(); ++from) {
    for (int to = 0; to < model.n_devices(); ++to) {
      hops_.push_back(from == to ? 0 : model.HopSeconds(from, to));
    }
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
      if (NextMembers(group, 0)) kinds_.push_back({group, {}});
      const int from = group.size() > 1 ? group.back() : 0;
      for (int t = from; t < static_cast<int>(types_.size()); ++t) {
        std::vector<int> larger = group;
        larger.push_back(t);
        if (NextMembers(larger, 0)) next.push_back(std::move(larger));
      }
    }
    level.swap(next);
  }
  const bool are_few = kinds_.size() <= kMaxSolved;
  for (Kind& kind : kinds_) {
    if (stopped()) return;
    const std::vector<int> devices = *Devices(kind.types, 0);
    if (are_few && devices.size() > 1) {
      kind.estimates.fill(EstimateGroup(model_, devices, options_.inner));
      continue;
    }
    for (size_t p = 0; p < std::size(kPlaces); ++p) {
      kind.estimates[p] = are_few ? EstimateGroup(model_, devices, options_.inner, kPlaces[p])
                                  : Sketched(devices, kPlaces[p]);
    }
  }
}

std::vector<StageEstimate> StageProgram::Sketched(const std::vector<int>& group,
                                                  StagePlace place) const {
  const int n = model_.n_layer();
  const double evenness = 1 - options_.inner.objective.latency;
  std::vector<StageEstimate> estimates(static_cast<size_t>(n) + 1, {kNoPlan, kNoPlan});
  for (int k = 1; k <= n; ++k) {
    StageEstimate& estimate = estimates[static_cast<size_t>(k)];
    estimate = sketch_.Of(group, k, place, evenness);
    if (estimate.seconds == kNoPlan) break;
  }
  return estimates;
}

std::optional<std::vector<int>> StageProgram::Devices(const std::vector<int>& types,
                                                      uint64_t used) const {
  std::vector<int> devices;
  for (const int t : types) {
    const auto next = static_cast<size_t>(std::popcount(used & type_bits_[t]));
    if (next >= devices_[t].size()) return std::nullopt;
    devices.push_back(devices_[t][next]);
    used |= Bit(devices.back());
  }
  return devices;
}

std::optional<StageProgram::Members> StageProgram::NextMembers(const std::vector<int>& types,
                                                               uint64_t used) const {
  Members members{.lead = -1};
  for (const int t : types) {
    const auto next = static_cast<size_t>(std::popcount((used | members.bits) & type_bits_[t]));
    if (next >= devices_[t].size()) return std::nullopt;
    const int device = devices_[t][next];
    if (members.lead < 0) members.lead = device;
    members.bits |= Bit(device);
  }
  return members;
}

// Bottlenecks to try: none for latency alone; else from what all devices could reach to what one
// stage needs.
std::vector<double> StageProgram::Caps() const {
  std::vector<double> caps = {kNoPlan};
  if (options_.inner.objective.latency >= 1) return caps;
  double high = 0;
  double low = kNoPlan;
  for (const Kind& kind : kinds_) {
    for (const std::vector<StageEstimate>& estimates : kind.estimates) {
      for (size_t k = 1; k < estimates.size(); ++k) {
        const double b = estimates[k].bottleneck_s;
        if (b == kNoPlan) continue;
        high = std::max(high, b);
        low = std::min(low, b / static_cast<double>(k) * model_.n_layer() / model_.n_devices());
      }
    }
  }
  for (int c = 0; c < kCaps && low < high; ++c) {
    caps.push_back(low * std::pow(high / low, static_cast<double>(c) / kCaps));
  }
  return caps;
}

size_t StageProgram::Beam::Worst() const {
  const auto by_value = [](const State& a, const State& b) { return a.value < b.value; };
  return static_cast<size_t>(std::max_element(states_.begin(), states_.end(), by_value) -
                             states_.begin());
}

void StageProgram::Beam::Offer(const State& state) {
  const auto same = std::find_if(states_.begin(), states_.end(),
                                 [&](const State& other) { return other.used == state.used; });
  if (same != states_.end()) {
    if (state.value >= same->value) return;
    *same = state;
  } else if (states_.size() < kBeam) {
    states_.push_back(state);
  } else {
    states_[Worst()] = state;
  }
  if (states_.size() == kBeam) worst_ = states_[Worst()].value;
}

std::vector<StageProgram::State> StageProgram::Beam::Sorted() && {
  std::stable_sort(states_.begin(), states_.end(),
                   [](const State& a, const State& b) { return a.value < b.value; });
  return std::move(states_);
}

std::vector<Cut> StageProgram::Program(double cap, size_t max_group) const {
  const auto n = static_cast<size_t>(model_.n_layer());
  std::vector<Beam> beams(n + 1);
  std::vector<std::vector<State>> kept(n + 1);
  beams[0].Offer({});
  for (size_t begin = 0; begin <= n; ++begin) {
    kept[begin] = std::move(beams[begin]).Sorted();
    for (size_t s = 0; s < kept[begin].size() && begin < n; ++s) {
      for (const Kind& kind : kinds_) {
        if (kind.types.size() > max_group) continue;
        const State& state = kept[begin][s];
        const std::optional<Members> members = NextMembers(kind.types, state.used);
        if (!members) continue;
        Extend(state, kind, cap,
               {.used = state.used | members->bits,
                .last_lead = members->lead,
                .kind = &kind,
                .begin = static_cast<int>(begin),
                .before = s},
               beams);
      }
    }
  }
  return CutsOf(kept);
}

// One stage more, of any length. The innermost loop of the outer search.
void StageProgram::Extend(const State& state, const Kind& kind, double cap, State next,
                          std::vector<Beam>& beams) const {
  const double latency = options_.inner.objective.latency;
  const double per_second = std::max(latency, 1e-6);  // equal bottlenecks: the shorter pipeline
  double seconds = state.seconds;
  if (state.last_lead >= 0) {
    seconds += hops_[static_cast<size_t>(state.last_lead * model_.n_devices() + next.last_lead)];
  }
  // Whether it is as quick as the cap wants.
  const auto offer = [&](const StageEstimate& estimate, int end) {
    if (estimate.seconds == kNoPlan || estimate.bottleneck_s > cap) return false;
    next.seconds = seconds + estimate.seconds;
    next.bottleneck_s = std::max(state.bottleneck_s, estimate.bottleneck_s);
    next.value = per_second * next.seconds + (1 - latency) * next.bottleneck_s;
    if (beams[end].Wants(next.value)) beams[end].Offer(next);
    return true;
  };
  const int n = model_.n_layer();
  const bool is_first = next.begin == 0;
  const std::vector<StageEstimate>& estimates = kind.At({.is_first = is_first});
  for (int end = next.begin + 1; end < n && offer(estimates[end - next.begin], end); ++end) {
  }
  // The last one may fit where an inner one that is shorter does not: it sends nothing on.
  offer(kind.At({.is_first = is_first, .is_last = true})[n - next.begin], n);
}

// The stages of the best state at the end, from the last one back.
std::vector<Cut> StageProgram::CutsOf(const std::vector<std::vector<State>>& kept) const {
  std::vector<Cut> cuts;
  if (kept.back().empty()) return cuts;
  int end = model_.n_layer();
  for (const State* state = &kept.back().front(); state->kind != nullptr;) {
    const State& before = kept[state->begin][state->before];
    cuts.push_back({state->begin, end, *Devices(state->kind->types, before.used)});
    end = state->begin;
    state = &before;
  }
  std::reverse(cuts.begin(), cuts.end());
  return cuts;
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
