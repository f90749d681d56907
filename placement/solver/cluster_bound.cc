#include "placement/solver/cluster_bound.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "placement/solver/leads_bound.h"
#include "placement/solver/led_layers.h"

namespace thermocline::placement {
namespace {

constexpr double kRounding = 1e-6;  // of a value: far above that of sums, far below any gap told
constexpr double kNoFit = std::numeric_limits<double>::infinity();
// Layers x leads x devices: with all lengths, samples and prices each costs 0.3 to 0.5 ms of a
// processor (6.5 s for 20 480, 2.0 s for 3840, docs/placement.md), so some ten to fifteen seconds.
constexpr int64_t kMaxAsked = 30000;

// What is fixed as one more block, which any device may have: where only the bottleneck counts,
// some device must be busy with it, and has memory for what the layer takes of its lead's.
void MakeFixedABlock(uint64_t n_bytes, SplitLayer* layer) {
  layer->block_bytes.insert(layer->block_bytes.begin(), n_bytes);
  for (double& seconds : layer->seconds[0]) seconds += layer->fixed_s;
  layer->seconds[0].insert(layer->seconds[0].begin(), 0);
}

// A layer costs less alone on its lead or shared, by its weights' form there and how its neurons
// fire: block by block the less of both counts.
void TakeLess(const SplitLayer& other, SplitLayer* layer) {
  layer->fixed_s = std::min(layer->fixed_s, other.fixed_s);
  std::vector<double>& sums = layer->seconds[0];
  const std::vector<double>& others = other.seconds[0];
  double before = 0, sum = 0;
  for (size_t k = 1; k < sums.size(); ++k) {
    sum += std::min(sums[k] - before, others[k] - others[k - 1]);
    before = std::exchange(sums[k], sum);
  }
  for (size_t i = 0; i < layer->block_bytes.size(); ++i) {
    layer->block_bytes[i] = std::min(layer->block_bytes[i], other.block_bytes[i]);
  }
}

// Of one device that has all layers, in whichever form is cheaper.
SplitProblem AloneOrShared(const StageModel& model, int device) {
  SplitProblem one = model.Times(0, model.n_layer(), {device});
  if (one.layers.empty() || model.n_devices() < 2) return one;
  const SplitProblem shared = model.Times(0, model.n_layer(), {device, device == 0 ? 1 : 0});
  for (size_t l = 0; l < shared.layers.size(); ++l) TakeLess(shared.layers[l], &one.layers[l]);
  return one;
}

// By layer, whoever leads it.
std::vector<uint64_t> LeastLeadBytes(const StageModel& model) {
  std::vector<uint64_t> least;
  for (int l = 0; l < model.n_layer(); ++l) {
    least.push_back(model.LeadBytes(l, 0));
    for (int d = 1; d < model.n_devices(); ++d) {
      least.back() = std::min(least.back(), model.LeadBytes(l, d));
    }
  }
  return least;
}

// One stage of all devices without links.
struct FreeLinks {
  SplitProblem problem;
  double fixed_s = 0;  // of a token, whoever leads
};

// Nullopt: a device cannot be asked for all layers alone.
std::optional<FreeLinks> FreeLinksOf(const StageModel& model, SplitObjective objective) {
  std::optional<SplitProblem> all;
  std::vector<double> fixed(model.n_layer(), kNoFit);
  std::vector<uint64_t> lead_bytes;
  if (objective.latency == 0) lead_bytes = LeastLeadBytes(model);
  for (int d = 0; d < model.n_devices(); ++d) {
    SplitProblem one = AloneOrShared(model, d);
    if (one.layers.empty()) return std::nullopt;
    for (size_t l = 0; l < fixed.size(); ++l) {
      fixed[l] = std::min(fixed[l], one.layers[l].fixed_s);
      if (objective.latency == 0) MakeFixedABlock(lead_bytes[l], &one.layers[l]);
      one.layers[l].fixed_s = 0;
      one.layers[l].least_active.clear();
      one.layers[l].active.clear();
    }
    one.devices = {SplitDevice{.memory_bytes = model.MostMemory(d)}};
    if (!all) {
      all = std::move(one);
      continue;
    }
    all->devices.push_back(one.devices[0]);
    for (size_t l = 0; l < fixed.size(); ++l) {
      all->layers[l].seconds.push_back(std::move(one.layers[l].seconds[0]));
    }
  }
  return FreeLinks{*std::move(all), std::accumulate(fixed.begin(), fixed.end(), 0.0)};
}

// Stages have leads of their own, so where latency counts too only the neurons' work is sure to be
// in the bottleneck.
double FreeLinksBound(const StageModel& model, SplitObjective objective) {
  const std::optional<FreeLinks> free = FreeLinksOf(model, objective);
  if (!free) return 0;
  const Result<SplitSolution> relaxed =
      SolveSplit(free->problem, {.objective = objective, .in_intervals = false});
  return objective.latency * free->fixed_s +
         (relaxed.ok() ? relaxed->lower_bound : WorkBound(free->problem, objective));
}

}  // namespace

double RoughClusterBound(const StageModel& model, SplitObjective objective) {
  const std::optional<FreeLinks> free = FreeLinksOf(model, objective);
  if (!free) return 0;
  return objective.latency * free->fixed_s + WorkBound(free->problem, objective);
}

double ClusterBound(const StageModel& model, SplitObjective objective,
                    const std::atomic<bool>* stop) {
  const auto is_stopped = [&] { return stop != nullptr && *stop; };
  if (is_stopped()) return 0;
  int64_t leads = 0;
  const std::vector<int> first = FirstOfTypes(model);
  for (int d = 0; d < model.n_devices(); ++d) leads += first[d] == d;
  const bool few = leads * model.n_layer() * model.n_devices() <= kMaxAsked;
  double bound = 0;
  if (few && objective.latency > 0) bound = LeadsBound(model, objective, stop);
  if ((bound > 0 && objective.latency >= 1) || is_stopped()) return bound;
  return std::max(bound, FreeLinksBound(model, objective));
}

double WithoutRounding(double bound, double value) {
  return bound > value && bound <= value * (1 + kRounding) ? value : bound;
}

}  // namespace thermocline::placement
