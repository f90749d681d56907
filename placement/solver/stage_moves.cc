#include "placement/solver/stage_moves.h"

#include <algorithm>
#include <limits>

namespace thermocline::placement {
namespace {

constexpr double kNoPlan = std::numeric_limits<double>::infinity();
constexpr double kBetter = 1 - 1e-4;  // of a value: what is worth a move
constexpr int kMaxSweeps = 12;        // through all moves
constexpr int kChunks = 40;           // in which layers are dealt
constexpr double kEvenness[] = {0, 0.5, 1};

// Groups with layers.
struct Draft {
  Groups groups;
  std::vector<int> n_layers;
  double value = kNoPlan;
};

class Moves {
 public:
  Moves(StageSketch& sketch, SplitObjective objective, const std::atomic<bool>* stop)
      : sketch_(sketch), objective_(objective), stop_(stop) {}

  Draft Run(const Groups& start) {
    best_ = Dealt(start);
    if (best_.value == kNoPlan) return best_;
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      const double before = best_.value;
      TryDevices();
      TryExchanges();
      TryStages();
      if (best_.value >= before * kBetter) break;
    }
    return best_;
  }

 private:
  static constexpr int kIdle = -1;

  bool stopped() const { return stop_ != nullptr && *stop_; }
  int n_devices() const { return sketch_.model().n_devices(); }
  int n_stages() const { return static_cast<int>(best_.groups.size()); }

  // --- layers for groups
  double ValueOf(const Groups& groups, const std::vector<int>& n_layers, double evenness) {
    double seconds = 0, busiest = 0;
    for (size_t s = 0; s < groups.size(); ++s) {
      const StageEstimate stage = Of(groups, s, n_layers[s], evenness);
      if (stage.seconds == kNoPlan) return kNoPlan;
      seconds += stage.seconds;
      if (s > 0) seconds += sketch_.model().HopSeconds(groups[s - 1][0], groups[s][0]);
      busiest = std::max(busiest, stage.bottleneck_s);
    }
    // Equal bottlenecks: the shorter pipeline.
    return std::max(objective_.latency, 1e-6) * seconds + (1 - objective_.latency) * busiest;
  }

  StageEstimate Of(const Groups& groups, size_t s, int n_layers, double evenness) {
    return sketch_.Of(groups[s], n_layers, {s == 0, s + 1 == groups.size()}, evenness);
  }

  Draft Dealt(const Groups& groups) {
    Draft best;
    for (const double evenness : kEvenness) {
      Draft draft = DealtFor(groups, evenness);
      if (draft.value < best.value) best = std::move(draft);
      if (objective_.latency >= 1) break;
    }
    return best;
  }

  // One layer each, then some at a time to whom they cost least.
  Draft DealtFor(const Groups& groups, double evenness) {
    const int n = sketch_.model().n_layer();
    Draft draft{.groups = groups, .n_layers = std::vector<int>(groups.size(), 1)};
    int left = n - static_cast<int>(groups.size());
    if (left < 0) return draft;
    std::vector<StageEstimate> now;
    double busiest = 0;
    for (size_t s = 0; s < groups.size(); ++s) {
      now.push_back(Of(groups, s, 1, evenness));
      if (now.back().seconds == kNoPlan) return draft;
      busiest = std::max(busiest, now.back().bottleneck_s);
    }
    std::vector<StageEstimate> with(groups.size());  // `asked` layers more
    int asked = 0;
    for (int chunk = std::max(1, n / kChunks); left > 0;) {
      chunk = std::min(chunk, left);
      size_t taker = groups.size();
      double least = kNoPlan;
      for (size_t s = 0; s < groups.size(); ++s) {
        if (asked != chunk) with[s] = Of(groups, s, draft.n_layers[s] + chunk, evenness);
        if (with[s].seconds == kNoPlan) continue;
        // Below the bottleneck of now the least busy one, since it will rise.
        const double cost = objective_.latency * (with[s].seconds - now[s].seconds) +
                            (1 - objective_.latency) * with[s].bottleneck_s;
        if (cost < least) least = cost, taker = s;
      }
      asked = chunk;
      if (taker == groups.size()) {
        if (chunk == 1) return draft;
        chunk = 1;
        continue;
      }
      now[taker] = with[taker];
      draft.n_layers[taker] += chunk;
      left -= chunk;
      // Only of the taker the next answer is another one.
      if (left >= chunk) {
        with[taker] = Of(groups, taker, draft.n_layers[taker] + chunk, evenness);
      }
    }
    draft.value = ValueOf(groups, draft.n_layers, evenness);
    return draft;
  }

  bool Offer(const Groups& groups) {
    if (stopped()) return false;
    Draft draft = Dealt(groups);
    if (draft.value >= best_.value * kBetter) return false;
    best_ = std::move(draft);
    return true;
  }

  // --- moves
  struct Role {
    int stage = kIdle;
    size_t member = 0;
  };
  Role RoleOf(int device) const {
    for (size_t s = 0; s < best_.groups.size(); ++s) {
      const auto& group = best_.groups[s];
      const auto at = std::find(group.begin(), group.end(), device);
      if (at != group.end()) return {static_cast<int>(s), static_cast<size_t>(at - group.begin())};
    }
    return {};
  }

  static void TakeOut(Groups& groups, const Role& role) {
    if (role.stage == kIdle) return;
    auto& group = groups[static_cast<size_t>(role.stage)];
    group.erase(group.begin() + static_cast<std::ptrdiff_t>(role.member));
  }

  // Helpers and idle ones to each stage, aside, or to lead a stage of their own after one.
  void TryDevices() {
    for (int device = 0; device < n_devices(); ++device) {
      for (int to = kIdle; to < n_stages(); ++to) {
        const Role role = RoleOf(device);
        if (role.stage != kIdle && role.member == 0) break;
        if (to != role.stage) {
          Groups groups = best_.groups;
          TakeOut(groups, role);
          if (to != kIdle) groups[static_cast<size_t>(to)].push_back(device);
          if (Offer(groups)) continue;
        }
        Groups groups = best_.groups;
        TakeOut(groups, role);
        groups.insert(groups.begin() + to + 1, {device});
        Offer(groups);
      }
    }
  }

  void TryExchanges() {
    for (int a = 0; a < n_devices(); ++a) {
      for (int b = a + 1; b < n_devices(); ++b) {
        if (sketch_.model().DeviceType(a) == sketch_.model().DeviceType(b)) continue;
        const Role of_a = RoleOf(a), of_b = RoleOf(b);
        const bool both_help = of_a.member > 0 && of_b.member > 0;
        if (of_a.stage == of_b.stage && (of_a.stage == kIdle || both_help)) continue;
        Groups groups = best_.groups;
        if (of_a.stage != kIdle) groups[static_cast<size_t>(of_a.stage)][of_a.member] = b;
        if (of_b.stage != kIdle) groups[static_cast<size_t>(of_b.stage)][of_b.member] = a;
        Offer(groups);
      }
    }
  }

  // Each stage's members idle or helping another stage; or its helpers apart under the first.
  void TryStages() {
    for (int s = 0; s < n_stages(); ++s) {
      for (int to = kIdle; to < n_stages() && s < n_stages(); ++to) {
        Groups groups = best_.groups;
        const std::vector<int> members = groups[static_cast<size_t>(s)];
        if (to == s) {
          Halve(groups, s);
        } else {
          if (to != kIdle) {
            auto& others = groups[static_cast<size_t>(to)];
            others.insert(others.end(), members.begin(), members.end());
          }
          groups.erase(groups.begin() + s);
        }
        if (!groups.empty()) Offer(groups);
      }
    }
  }

  // Every other member into a stage of its own.
  static void Halve(Groups& groups, int s) {
    std::vector<int> halves[2];
    const std::vector<int>& members = groups[static_cast<size_t>(s)];
    for (size_t m = 0; m < members.size(); ++m) halves[m % 2].push_back(members[m]);
    if (halves[1].empty()) return;
    groups[static_cast<size_t>(s)] = halves[0];
    groups.insert(groups.begin() + s + 1, halves[1]);
  }

  StageSketch& sketch_;
  const SplitObjective objective_;
  const std::atomic<bool>* stop_;
  Draft best_;
};

}  // namespace

std::vector<Cut> ImproveStages(StageSketch& sketch, SplitObjective objective, const Groups& start,
                               const std::atomic<bool>* stop) {
  const Draft draft = Moves(sketch, objective, stop).Run(start);
  std::vector<Cut> cuts;
  if (draft.value == kNoPlan) return cuts;
  for (size_t s = 0; s < draft.groups.size(); ++s) {
    const int begin = cuts.empty() ? 0 : cuts.back().end;
    cuts.push_back({begin, begin + draft.n_layers[s], draft.groups[s]});
  }
  return cuts;
}

}  // namespace thermocline::placement
