#include "placement/neuron_heat.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/check.h"
#include "base/str.h"

namespace thermocline::placement {
namespace {

constexpr auto& kBatches = model::kUnionBatches;

}  // namespace

NeuronHeat NeuronHeat::Of(const model::LayerActivity& activity, uint64_t n_tokens) {
  CHECK(n_tokens > 0);
  std::vector<double> fires;
  fires.reserve(activity.fired.size());
  for (const uint64_t count : model::ByRank(activity.fired)) {
    fires.push_back(std::min(1.0, static_cast<double>(count) / static_cast<double>(n_tokens)));
  }
  return NeuronHeat(std::move(fires), activity.union_shares);
}

NeuronHeat NeuronHeat::Uniform(int64_t n_ff, double probability) {
  CHECK(probability >= 0 && probability <= 1);
  return NeuronHeat(std::vector<double>(static_cast<size_t>(n_ff), probability), {});
}

NeuronHeat NeuronHeat::InPlaces(std::vector<double> fires) {
  return NeuronHeat(std::move(fires), {});
}

NeuronHeat::NeuronHeat(std::vector<double> fires, const model::UnionShares& unions)
    : fires_(std::move(fires)) {
  if (unions.front() <= 0) return;
  for (size_t i = 0; i < kBatches.size(); ++i) {
    // Rises with n, so halving finds it. The measured union of one token may differ from the mean
    // of the counts by the choice of tokens.
    double low = 1, high = kBatches[i];
    for (int step = 0; step < 40; ++step) {
      const double middle = (low + high) / 2;
      (MeanUnion(middle) < unions[i] ? low : high) = middle;
    }
    independent_.push_back(high);
  }
}

double NeuronHeat::MeanUnion(double n_independent) const {
  if (fires_.empty()) return 0;
  double sum = 0;
  for (const double p : fires_) sum += 1 - std::pow(1 - p, n_independent);
  return sum / static_cast<double>(fires_.size());
}

double NeuronHeat::IndependentTokens(int64_t n_tokens) const {
  const double n = static_cast<double>(n_tokens);
  if (independent_.empty() || n_tokens <= 1) return n;
  const auto above = std::lower_bound(kBatches.begin(), kBatches.end(), n_tokens);
  if (above == kBatches.end()) return independent_.back() * n / kBatches.back();
  const auto i = static_cast<size_t>(above - kBatches.begin());
  const double low = kBatches[i - 1], high = kBatches[i];
  const double share = (n - low) / (high - low);
  return independent_[i - 1] + share * (independent_[i] - independent_[i - 1]);
}

std::vector<double> NeuronHeat::Union(int64_t n_tokens) const {
  if (n_tokens <= 1) return fires_;
  const double n = IndependentTokens(n_tokens);
  std::vector<double> needed;
  needed.reserve(fires_.size());
  for (const double p : fires_) needed.push_back(1 - std::pow(1 - p, n));
  return needed;
}

Result<std::vector<NeuronHeat>> HeatsOf(const model::SparsityProfile& profile,
                                        const model::ModelConfig& config) {
  if (profile.layers.size() != static_cast<size_t>(config.n_layer) ||
      profile.n_ff() != config.n_ff) {
    return InvalidArgument(Str("profile of another shape:", Kv("layers", profile.layers.size()),
                               Kv("n_ff", profile.n_ff())));
  }
  std::vector<NeuronHeat> heats;
  for (const model::LayerActivity& layer : profile.layers) {
    heats.push_back(NeuronHeat::Of(layer, profile.n_tokens));
  }
  return heats;
}

std::vector<NeuronHeat> UniformHeats(const model::ModelConfig& config, double probability) {
  return {static_cast<size_t>(config.n_layer), NeuronHeat::Uniform(config.n_ff, probability)};
}

std::vector<NeuronHeat> Levelled(const std::vector<NeuronHeat>& heats) {
  std::vector<NeuronHeat> levelled;
  for (const NeuronHeat& heat : heats) {
    const double sum = std::accumulate(heat.fires().begin(), heat.fires().end(), 0.0);
    const auto n = static_cast<double>(std::max<int64_t>(heat.n_ff(), 1));
    levelled.push_back(NeuronHeat::Uniform(heat.n_ff(), sum / n));
  }
  return levelled;
}

}  // namespace thermocline::placement
