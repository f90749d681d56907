#include "placement/solver/leads_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "placement/solver/layer_bound.h"
#include "placement/solver/layer_oracle.h"
#include "placement/solver/led_layers.h"
#include "placement/solver/place_prices.h"

namespace thermocline::placement {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr int kThreads = 2;
constexpr size_t kMaxLengths = 5;  // of stages that are asked for
constexpr double kApart = 1.15;    // from one to the next, at least, unless they are few
// Of the least cost of a layer: what costs more in a stage of another length need not be known
// better, since stages of that length are seldom in the least sum.
constexpr double kFar = 1.01;
constexpr double kRounding = 1e-11;

// Of stages, rising: 1, the longest that any device can lead, and others between, those first that
// are the longest of some device. Empty: none has memory to lead any layer.
std::vector<int> LengthsOf(const LedLayers& layers) {
  std::vector<int> wanted;
  for (const int lead : layers.leads()) wanted.push_back(layers.cap(lead));
  std::sort(wanted.rbegin(), wanted.rend());
  const int longest = wanted.front();
  if (longest == 0) return {};
  // By a ratio, as the longer a stage the less does one layer more change of a place's share in
  // each; a third less leaves kMaxLengths something to choose from among the lengths up to 8.
  for (int length = longest; length > 1; length = length * 2 / 3) wanted.push_back(length);
  std::vector<int> lengths = {longest};
  if (longest > 1) lengths.push_back(1);
  const bool is_few = static_cast<size_t>(longest) <= kMaxLengths;
  for (const int length : wanted) {
    const auto is_near = [&](int other) {
      const double ratio = static_cast<double>(length) / other;
      return other == length || (!is_few && ratio < kApart && ratio > 1 / kApart);
    };
    if (length < 1 || std::any_of(lengths.begin(), lengths.end(), is_near)) continue;
    if (lengths.size() < kMaxLengths) lengths.push_back(length);
  }
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

class Bound {
 public:
  Bound(const LedLayers& layers, SplitObjective objective, ThreadPool& pool,
        const std::atomic<bool>* stop)
      : layers_(layers),
        objective_(objective),
        pool_(pool),
        stop_(stop),
        lengths_(LengthsOf(layers)) {}

  double Run() {
    if (lengths_.empty()) return 0;
    const std::vector<int> kinds = layers_.FirstOfLayerKinds();
    Choose(FindPlacePrices(layers_, objective_, kinds, lengths_, pool_, stop_), kinds);
    std::vector<std::vector<double>> costs(kinds.size());
    pool_.ParallelFor(layers_.n_layer(), [&](int64_t layer, int) {
      const auto l = static_cast<size_t>(layer);
      if (kinds[l] == layer && !is_stopped()) costs[l] = CostsOf(static_cast<int>(layer));
    });
    if (is_stopped()) return 0;
    sums_.assign(1, std::vector<double>(lengths_.size(), 0.0));
    for (const int kind : kinds) {
      std::vector<double>& next = sums_.emplace_back(sums_.back());
      for (size_t k = 0; k < next.size(); ++k) next[k] += costs[static_cast<size_t>(kind)][k];
    }
    const double stages = LeastStages(), paid = prices_.Paid(layers_);
    return stages < kNone ? std::max(0.0, stages - paid - kRounding * (stages + paid)) : 0;
  }

 private:
  // A layer in a stage of lengths_[length] layers under a lead, with a good split of it or none.
  struct Led {
    size_t length = 0;
    size_t of = 0;  // the lead's problems
    SplitPrices prices;
    double fixed = 0;  // of the cost, whatever the split
    double price = kNone;
    std::optional<LayerSplit> known;
  };
  struct Problems {
    int lead = 0;
    std::optional<SplitProblem> shared, alone;
    std::optional<LayerTables> shared_tables, alone_tables;
  };

  bool is_stopped() const { return stop_ != nullptr && *stop_; }

  // Prices were found by what splits cost that a search finds. Certificates are less, the more so
  // the more is priced, so a few layers tell how much of the prices is best.
  void Choose(const PlacePrices& found, const std::vector<int>& kinds) {
    // Of places and of bytes: as found, a little less of both, places at half and for nothing, as
    // certificates lose most by those; and neither, below which prices must not put the bound.
    static constexpr std::pair<double, double> kShares[] = {
        {1, 1}, {0.85, 0.85}, {0.5, 1}, {0, 1}, {0, 0}};
    PlacePrices best = found;
    double most = -kNone;
    for (const auto& [of_places, of_bytes] : kShares) {
      prices_ = found;
      for (double& price : prices_.place) price *= of_places;
      for (double& price : prices_.byte) price *= of_bytes;
      const double value = Sampled(kinds) - prices_.Paid(layers_);
      if (value > most) {
        most = value;
        best = prices_;
      }
    }
    prices_ = std::move(best);
  }

  // About what all layers cost, by those in the middle of each third.
  double Sampled(const std::vector<int>& kinds) const {
    const size_t n = std::min(kinds.size(), size_t{3});
    std::vector<double> least(n, 0.0);
    pool_.ParallelFor(static_cast<int64_t>(n), [&](int64_t i, int) {
      const auto s = static_cast<size_t>(i);
      const std::vector<double> costs = CostsOf(kinds[(2 * s + 1) * kinds.size() / (2 * n)]);
      least[s] = *std::min_element(costs.begin(), costs.end());
    });
    return std::accumulate(least.begin(), least.end(), 0.0) * static_cast<double>(kinds.size()) /
           static_cast<double>(n);
  }

  std::vector<Problems> ProblemsOf(int layer) const {
    std::vector<Problems> all;
    all.reserve(layers_.leads().size());
    for (const int lead : layers_.leads()) {
      Problems& of =
          all.emplace_back(Problems{lead, layers_.Shared(layer, lead), layers_.Alone(layer, lead)});
      if (of.shared) of.shared_tables.emplace(*of.shared, of.shared->layers[0]);
      if (of.alone) of.alone_tables.emplace(*of.alone, of.alone->layers[0]);
    }
    return all;
  }

  // By length: what the layer costs at least there, whoever leads it. A lead counts in each length
  // above which it can lead a stage, so that between two lengths the leads of the longer one do.
  std::vector<double> CostsOf(int layer) const {
    const std::vector<Problems> problems = ProblemsOf(layer);
    std::vector<Led> asked;
    for (size_t of = 0; of < problems.size(); ++of) {
      std::optional<LayerSplit> known;
      for (size_t k = lengths_.size(); k > 0; --k) {
        const int shortest = k > 1 ? lengths_[k - 2] + 1 : 1;
        if (layers_.cap(problems[of].lead) < shortest) continue;
        asked.push_back(LedIn(layer, k - 1, of, problems[of], &known));
      }
    }
    std::stable_sort(asked.begin(), asked.end(),
                     [](const Led& a, const Led& b) { return a.price < b.price; });
    std::vector<double> costs(lengths_.size(), kNone);
    double least = kNone;
    for (const Led& led : asked) {
      if (is_stopped()) break;
      const double enough = std::min(costs[led.length], kFar * least);
      const double cost = CostOf(led, problems[led.of], enough);
      costs[led.length] = std::min(costs[led.length], cost);
      least = std::min(least, cost);
    }
    return costs;
  }

  Led LedIn(int layer, size_t length, size_t of, const Problems& problems,
            std::optional<LayerSplit>* known) const {
    const int lead = problems.lead, n_stage = lengths_[length];
    Led led{.length = length,
            .of = of,
            .prices = prices_.Of(layers_, lead, n_stage),
            .fixed = prices_.LeadPrice(layers_, layer, lead, n_stage)};
    if (problems.shared_tables) {
      const LayerTables& tables = *problems.shared_tables;
      // One that is good in the longest stages is in others, too.
      if (!*known) *known = BestLayerSplit(tables, led.prices, {.thorough = false});
      led.known = *known;
      if (led.known) led.price = led.fixed + tables.Price(led.prices, *led.known);
    }
    led.price = std::min(led.price, led.fixed + PriceAlone(led, problems));
    return led;
  }

  double PriceAlone(const Led& led, const Problems& problems) const {
    if (!problems.alone_tables) return kNone;
    const LayerTables& tables = *problems.alone_tables;
    const SplitPrices prices = {
        .latency = led.prices.latency, .byte = {led.prices.byte[0]}, .busy = {led.prices.busy[0]}};
    const double upper = tables.Price(prices, {{0, tables.n_blocks()}});
    return upper - kRounding * std::abs(upper);
  }

  double CostOf(const Led& led, const Problems& problems, double enough) const {
    double cost = PriceAlone(led, problems);
    if (problems.shared_tables) {
      const LayerTables& tables = *problems.shared_tables;
      // The search for one may have missed those that there are.
      const double shared = led.known
                                ? LayerBound(tables, led.prices, *led.known, enough - led.fixed)
                                : tables.FixedPrice(led.prices);
      cost = std::min(cost, shared);
    }
    return led.fixed + cost;
  }

  // Of all cuts into stages, one for each device at most: a[i] is the least of the first i layers.
  double LeastStages() const {
    const int n = layers_.n_layer();
    const double hop = objective_.latency * layers_.least_hop_s();
    std::vector<double> before(static_cast<size_t>(n) + 1, kNone);
    before[0] = 0;
    double least = kNone;
    for (int s = 0; s < std::min(n, layers_.n_devices()); ++s) {
      std::vector<double> next(before.size(), kNone);
      for (int end = 1; end <= n; ++end) {
        for (int begin = std::max(0, end - lengths_.back()); begin < end; ++begin) {
          if (before[begin] == kNone) continue;
          const double cost = before[begin] + StageCost(begin, end) + (s > 0 ? hop : 0);
          next[end] = std::min(next[end], cost);
        }
      }
      before = std::move(next);
      least = std::min(least, before[n]);
    }
    return least;
  }

  double StageCost(int begin, int end) const {
    const int n_stage = end - begin;
    const auto at = [&](size_t k) { return sums_[end][k] - sums_[begin][k]; };
    const auto above = std::lower_bound(lengths_.begin(), lengths_.end(), n_stage);
    const auto k = static_cast<size_t>(above - lengths_.begin());
    if (*above == n_stage) return at(k);
    const double low = 1.0 / lengths_[k], high = 1.0 / lengths_[k - 1];
    const double part = (1.0 / n_stage - low) / (high - low);
    return part * at(k - 1) + (1 - part) * at(k);
  }

  const LedLayers& layers_;
  const SplitObjective objective_;
  ThreadPool& pool_;
  const std::atomic<bool>* const stop_;
  const std::vector<int> lengths_;
  PlacePrices prices_;
  std::vector<std::vector<double>> sums_;  // of the first layers' costs, by length
};

}  // namespace

double LeadsBound(const StageModel& model, SplitObjective objective,
                  const std::atomic<bool>* stop) {
  const auto pool = ThreadPool::Create({.n_threads = kThreads, .name = "bound"});
  if (!pool.ok()) return 0;
  const LedLayers layers(model);
  return Bound(layers, objective, **pool, stop).Run();
}

}  // namespace thermocline::placement
