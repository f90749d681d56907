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
  struct Asked {
    size_t length = 0;
    size_t of = 0;  // of the layer's leads
    SplitPrices prices;
    double fixed = 0;  // of the cost, whatever the split
    double price = kNone;
    std::optional<LayerSplit> known;
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

  // By length: what the layer costs at least there, whoever leads it. A lead counts in each length
  // above which it can lead a stage, so that between two lengths the leads of the longer one do.
  std::vector<double> CostsOf(int layer) const {
    std::vector<LedLayer> leads;
    for (const int lead : layers_.leads()) leads.push_back(layers_.Of(layer, lead));
    std::vector<Asked> asked;
    for (size_t of = 0; of < leads.size(); ++of) {
      std::optional<LayerSplit> known;
      for (size_t k = lengths_.size(); k > 0; --k) {
        const int shortest = k > 1 ? lengths_[k - 2] + 1 : 1;
        if (layers_.cap(leads[of].lead) < shortest) continue;
        asked.push_back(AskedIn(k - 1, of, leads[of], &known));
      }
    }
    std::stable_sort(asked.begin(), asked.end(),
                     [](const Asked& a, const Asked& b) { return a.price < b.price; });
    std::vector<double> costs(lengths_.size(), kNone);
    double least = kNone;
    for (const Asked& ask : asked) {
      if (is_stopped()) break;
      const double enough = std::min(costs[ask.length], kFar * least);
      const double cost = CostOf(ask, leads[ask.of], enough);
      costs[ask.length] = std::min(costs[ask.length], cost);
      least = std::min(least, cost);
    }
    return costs;
  }

  Asked AskedIn(size_t length, size_t of, const LedLayer& led,
                std::optional<LayerSplit>* known) const {
    const int n_stage = lengths_[length];
    Asked ask{.length = length,
              .of = of,
              .prices = prices_.Of(layers_, led.lead, n_stage),
              .fixed = prices_.LeadPrice(layers_, led.layer, led.lead, n_stage)};
    if (led.shared) {
      const LayerTables& tables = led.shared->tables;
      // One that is good in the longest stages is in others, too.
      if (!*known) *known = BestLayerSplit(tables, ask.prices, {.thorough = false});
      ask.known = *known;
      if (ask.known) ask.price = ask.fixed + tables.Price(ask.prices, *ask.known);
    }
    ask.price = std::min(ask.price, ask.fixed + PriceAlone(ask, led));
    return ask;
  }

  double PriceAlone(const Asked& ask, const LedLayer& led) const {
    if (!led.alone) return kNone;
    const LayerTables& tables = led.alone->tables;
    const double upper = tables.Price(ask.prices, {{0, tables.n_blocks()}});
    return upper - kRounding * std::abs(upper);
  }

  double CostOf(const Asked& ask, const LedLayer& led, double enough) const {
    double cost = PriceAlone(ask, led);
    if (led.shared) {
      const LayerTables& tables = led.shared->tables;
      // The search for one may have missed those that there are.
      const double shared = ask.known
                                ? LayerBound(tables, ask.prices, *ask.known, enough - ask.fixed)
                                : tables.FixedPrice(ask.prices);
      cost = std::min(cost, shared);
    }
    return ask.fixed + cost;
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
