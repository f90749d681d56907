#include "placement/solver/cluster_bound.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "placement/solver/layer_bound.h"
#include "placement/solver/layer_oracle.h"
#include "placement/solver/layer_tables.h"

namespace thermocline::placement {
namespace {

constexpr double kNoFit = std::numeric_limits<double>::infinity();
// Layers x leads x devices: each costs a fraction of a millisecond, so some ten seconds.
constexpr int64_t kMaxAsked = 30000;
constexpr int kThreads = 2;

// What is fixed as one more block without bytes, which any device may have: where only the
// bottleneck counts, some device must be busy with it.
void MakeFixedABlock(SplitLayer* layer) {
  layer->block_bytes.insert(layer->block_bytes.begin(), 0);
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

// One stage of all devices without links.
struct FreeLinks {
  SplitProblem problem;
  double fixed_s = 0;  // of a token, whoever leads
};

// Nullopt: a device cannot be asked for all layers alone.
std::optional<FreeLinks> FreeLinksOf(const StageModel& model, SplitObjective objective) {
  std::optional<SplitProblem> all;
  std::vector<double> fixed(model.n_layer(), kNoFit);
  for (int d = 0; d < model.n_devices(); ++d) {
    SplitProblem one = AloneOrShared(model, d);
    if (one.layers.empty()) return std::nullopt;
    for (size_t l = 0; l < fixed.size(); ++l) {
      fixed[l] = std::min(fixed[l], one.layers[l].fixed_s);
      if (objective.latency == 0) MakeFixedABlock(&one.layers[l]);
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
  const Result<SplitSolution> relaxed = SolveSplit(free->problem, {.objective = objective});
  return objective.latency * free->fixed_s +
         (relaxed.ok() ? relaxed->lower_bound : WorkBound(free->problem, objective));
}

std::vector<int> FirstOfTypes(const StageModel& model) {
  std::vector<int> first;
  for (int d = 0; d < model.n_devices(); ++d) {
    int other = 0;
    while (other < d && model.DeviceType(other) != model.DeviceType(d)) ++other;
    first.push_back(other);
  }
  return first;
}

// All devices, `lead` first.
std::vector<int> LedBy(const StageModel& model, int lead) {
  std::vector<int> group = {lead};
  for (int d = 0; d < model.n_devices(); ++d) {
    if (d != lead) group.push_back(d);
  }
  return group;
}

class LeadsBound {
 public:
  LeadsBound(const StageModel& model, SplitObjective objective, const std::atomic<bool>* stop)
      : model_(model), objective_(objective), stop_(stop) {
    for (int d = 0; d < model.n_devices(); ++d) memory_.push_back(model.MostMemory(d));
    first_ = FirstOfTypes(model);
  }

  double Run(int lead) {
    if (!FindPrices(lead)) return 0;
    const std::vector<int> kinds = FirstOfLayerKinds();
    std::vector<double> least(model_.n_layer(), kNoFit);
    const auto of_layer = [&](int64_t layer, int) {
      const auto l = static_cast<size_t>(layer);
      if (kinds[l] == layer && !is_stopped()) least[l] = Least(static_cast<int>(layer));
    };
    const auto pool = ThreadPool::Create({.n_threads = kThreads, .name = "bound"});
    if (!pool.ok()) return 0;
    (*pool)->ParallelFor(model_.n_layer(), of_layer);
    if (is_stopped()) return 0;
    for (size_t l = 0; l < least.size(); ++l) least[l] = least[kinds[l]];
    double bound = std::accumulate(least.begin(), least.end(), 0.0);
    for (size_t d = 0; d < memory_.size(); ++d) {
      bound -= prices_.byte[d] * static_cast<double>(memory_[d]);
    }
    return bound < kNoFit ? bound : 0;
  }

 private:
  bool is_stopped() const { return stop_ != nullptr && *stop_; }

  // By layer: the first one that is equal to it whoever leads.
  std::vector<int> FirstOfLayerKinds() const {
    std::vector<int> first(model_.n_layer(), 0);
    for (int lead = 0; lead < model_.n_devices(); ++lead) {
      if (first_[lead] != lead) continue;
      const auto forms = [&](int l) {
        return std::pair(Layer(l, lead), model_.Times(l, l + 1, {lead}));
      };
      const std::vector<int> before = first;    // under the other leads
      std::map<int, decltype(forms(0))> known;  // by first layer
      for (int l = 0; l < model_.n_layer(); ++l) {
        auto own = forms(l);
        const auto equal = std::find_if(known.begin(), known.end(), [&](const auto& other) {
          return before[other.first] == before[l] && other.second == own;
        });
        first[l] = equal != known.end() ? equal->first : l;
        if (first[l] == l) known.emplace(l, std::move(own));
      }
    }
    return first;
  }

  std::optional<SplitProblem> Layer(int l, int lead) const {
    const std::vector<int> group = LedBy(model_, lead);
    SplitProblem problem = model_.Times(l, l + 1, group);
    if (!CheckProblem(problem).ok()) return std::nullopt;
    problem.layers[0].least_active.clear();
    for (size_t i = 0; i < group.size(); ++i) {
      problem.devices[i].memory_bytes = memory_[group[i]];
    }
    return problem;
  }

  // Of one stage of all devices under `lead`; alike devices at their mean price, so that one of
  // them stands for the others as a lead.
  bool FindPrices(int lead) {
    std::optional<SplitProblem> all;
    for (int l = 0; l < model_.n_layer(); ++l) {
      std::optional<SplitProblem> layer = Layer(l, lead);
      if (!layer) return false;
      if (!all) {
        all = std::move(layer);
      } else {
        all->layers.push_back(std::move(layer->layers[0]));
      }
    }
    const Result<SplitSolution> solution =
        SolveSplit(*all, {.objective = objective_, .certify = false});
    if (!solution.ok()) return false;
    prices_ = solution->prices;
    const std::vector<int> group = LedBy(model_, lead);
    for (size_t i = 0; i < group.size(); ++i) {
      prices_.byte[group[i]] = solution->prices.byte[i];
      prices_.busy[group[i]] = solution->prices.busy[i];
    }
    EvenOut(prices_.byte);
    EvenOut(prices_.busy);
    return true;
  }

  void EvenOut(std::vector<double>& prices) const {
    std::vector<double> sums(prices.size(), 0.0), counts(prices.size(), 0.0);
    for (size_t d = 0; d < prices.size(); ++d) {
      sums[first_[d]] += prices[d];
      counts[first_[d]] += 1;
    }
    for (size_t d = 0; d < prices.size(); ++d) prices[d] = sums[first_[d]] / counts[first_[d]];
  }

  // A layer under one lead, with a good split of it.
  struct Led {
    int lead = 0;
    SplitProblem problem;
    SplitPrices prices;
    std::optional<LayerSplit> known;
    double price = kNoFit;  // of `known`
  };

  // What the layer costs at least, whoever leads it, alone or with any others; kNoFit when its
  // numbers are impossible. Only the least counts: the bounds of leads that seem worse end early.
  double Least(int l) const {
    std::vector<Led> leads;
    for (int lead = 0; lead < model_.n_devices(); ++lead) {
      if (first_[lead] != lead) continue;
      std::optional<SplitProblem> problem = Layer(l, lead);
      if (!problem) continue;
      Led& led = leads.emplace_back(Led{
          .lead = lead, .problem = std::move(*problem), .prices = PricesOf(LedBy(model_, lead))});
      const LayerTables tables(led.problem, led.problem.layers[0]);
      led.known = BestLayerSplit(tables, led.prices, {.thorough = false});
      if (led.known) led.price = tables.Price(led.prices, *led.known);
    }
    std::stable_sort(leads.begin(), leads.end(),
                     [](const Led& a, const Led& b) { return a.price < b.price; });
    double least = kNoFit;
    for (const Led& led : leads) {
      least = std::min({least, LeastShared(led, least), LeastAlone(l, led.lead, least)});
    }
    return least;
  }

  double LeastShared(const Led& led, double enough) const {
    const LayerTables tables(led.problem, led.problem.layers[0]);
    // The search for one may have missed those that there are.
    if (!led.known) return tables.FixedPrice(led.prices);
    return LayerBound(tables, led.prices, *led.known, enough);
  }

  double LeastAlone(int l, int lead, double enough) const {
    const SplitProblem problem = model_.Times(l, l + 1, {lead});
    if (!CheckProblem(problem).ok()) return kNoFit;
    const LayerTables tables(problem, problem.layers[0]);
    return LayerBound(tables, PricesOf({lead}), {{0, problem.layers[0].n_blocks()}}, enough);
  }

  SplitPrices PricesOf(const std::vector<int>& group) const {
    SplitPrices prices{.latency = prices_.latency};
    for (const int device : group) {
      prices.byte.push_back(prices_.byte[device]);
      prices.busy.push_back(prices_.busy[device]);
    }
    return prices;
  }

  const StageModel& model_;
  const SplitObjective objective_;
  const std::atomic<bool>* const stop_;
  std::vector<uint64_t> memory_;
  std::vector<int> first_;  // by device: the first of its type
  SplitPrices prices_;      // by device
};

}  // namespace

double RoughClusterBound(const StageModel& model, SplitObjective objective) {
  const std::optional<FreeLinks> free = FreeLinksOf(model, objective);
  if (!free) return 0;
  return objective.latency * free->fixed_s + WorkBound(free->problem, objective);
}

double ClusterBound(const StageModel& model, SplitObjective objective, int lead,
                    const std::atomic<bool>* stop) {
  const auto is_stopped = [&] { return stop != nullptr && *stop; };
  if (is_stopped()) return 0;
  int64_t leads = 0;
  const std::vector<int> first = FirstOfTypes(model);
  for (int d = 0; d < model.n_devices(); ++d) leads += first[d] == d;
  const bool few = leads * model.n_layer() * model.n_devices() <= kMaxAsked;
  double bound = 0;
  if (few && objective.latency > 0) bound = LeadsBound(model, objective, stop).Run(lead);
  if ((bound > 0 && objective.latency >= 1) || is_stopped()) return bound;
  return std::max(bound, FreeLinksBound(model, objective));
}

}  // namespace thermocline::placement
