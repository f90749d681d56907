#include "coordinator/live_heat.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

// What happened this many looked-at tokens ago counts by 1/e. Workers look at one step in eight, so
// it is the memory of some 16 000 steps, minutes of decoding. Rates then have a standard error of
// at most 1 %.
constexpr double kMemoryTokens = 2048;
// Before this many, chance would reorder neurons: rates of 0.1 have a standard error of 2 %.
constexpr float kLeastTokens = 256;

}  // namespace

LiveHeat::LiveHeat(int n_layer, int64_t n_ff)
    : n_ff_(n_ff), layers_(static_cast<size_t>(n_layer)) {}

Status LiveHeat::Add(const proto::FiringCounts& counts) {
  const bool is_whole = counts.neurons.empty();
  const auto n = static_cast<int64_t>(counts.counts.size());
  const bool fits = counts.layer < static_cast<int>(layers_.size()) &&
                    (is_whole ? n == n_ff_ : counts.neurons.back() < n_ff_);
  if (!fits || counts.n_tokens == 0) {
    return DataLoss(Str("firing counts of another model:", Kv("layer", counts.layer),
                        Kv("neurons", n), Kv("n_ff", n_ff_), Kv("tokens", counts.n_tokens)));
  }
  Layer& layer = layers_[static_cast<size_t>(counts.layer)];
  layer.rates.resize(static_cast<size_t>(n_ff_));
  layer.n_seen.resize(static_cast<size_t>(n_ff_));
  const auto n_new = static_cast<double>(counts.n_tokens);
  for (size_t i = 0; i < counts.counts.size(); ++i) {
    const size_t neuron = is_whole ? i : static_cast<size_t>(counts.neurons[i]);
    float& n_seen = layer.n_seen[neuron];
    n_seen = static_cast<float>(std::min(kMemoryTokens, n_seen + n_new));
    const double weight = std::min(1.0, n_new / n_seen);
    float& rate = layer.rates[neuron];
    rate += static_cast<float>(weight * (counts.counts[i] / n_new - rate));
  }
  n_tokens_ += counts.n_tokens;
  return OkStatus();
}

bool LiveHeat::Knows(int layer) const {
  const std::vector<float>& n_seen = layers_[static_cast<size_t>(layer)].n_seen;
  return !n_seen.empty() &&
         std::all_of(n_seen.begin(), n_seen.end(), [](float n) { return n >= kLeastTokens; });
}

bool LiveHeat::KnowsAny() const {
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (Knows(static_cast<int>(layer))) return true;
  }
  return false;
}

std::vector<int32_t> LiveHeat::OrderOf(int layer, std::span<const int32_t> order) const {
  std::vector<int32_t> neurons(order.begin(), order.end());
  if (neurons.empty()) {
    neurons.resize(static_cast<size_t>(n_ff_));
    std::iota(neurons.begin(), neurons.end(), 0);
  }
  const std::vector<float>& rates = layers_[static_cast<size_t>(layer)].rates;
  std::stable_sort(neurons.begin(), neurons.end(), [&](int32_t a, int32_t b) {
    return rates[static_cast<size_t>(a)] > rates[static_cast<size_t>(b)];
  });
  return neurons;
}

double LiveHeat::RateAt(int layer, std::span<const int32_t> order, size_t place) const {
  const size_t neuron = order.empty() ? place : static_cast<size_t>(order[place]);
  return layers_[static_cast<size_t>(layer)].rates[neuron];
}

std::vector<placement::NeuronHeat> LiveHeat::HeatsIn(
    const model::NeuronOrder& order, const std::vector<placement::NeuronHeat>& otherwise) const {
  std::vector<placement::NeuronHeat> heats = otherwise;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const int layer = static_cast<int>(l);
    if (!Knows(layer)) continue;
    std::vector<double> fires(static_cast<size_t>(n_ff_));
    for (size_t place = 0; place < fires.size(); ++place) {
      fires[place] = RateAt(layer, order.Of(layer), place);
    }
    heats[l] = placement::NeuronHeat::InPlaces(std::move(fires));
  }
  return heats;
}

double LiveHeat::DriftFrom(const model::NeuronOrder& order,
                           const std::vector<placement::NeuronHeat>& planned) const {
  double difference = 0, sum = 0;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const int layer = static_cast<int>(l);
    if (!Knows(layer)) continue;
    const std::vector<double>& fires = planned[l].fires();
    for (size_t place = 0; place < fires.size(); ++place) {
      const double now = RateAt(layer, order.Of(layer), place);
      difference += std::abs(now - fires[place]);
      sum += now + fires[place];
    }
  }
  return sum > 0 ? difference / sum : 0;
}

}  // namespace thermocline::coordinator
