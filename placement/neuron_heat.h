// How likely the neurons of a layer are needed by a step: per neuron, in heat order.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/neuron_activity.h"
#include "model/sparsity_profile.h"

namespace thermocline::placement {

// One layer; place 0 is the neuron that fires most often, unless said otherwise. Immutable.
class NeuronHeat {
 public:
  // From what a profile counted over `n_tokens` > 0 tokens.
  static NeuronHeat Of(const model::LayerActivity& activity, uint64_t n_tokens);
  // Every neuron fires for a token with this probability, 0 to 1: what is left to assume without a
  // profile, where no order is better than another.
  static NeuronHeat Uniform(int64_t n_ff, double probability);
  // With these probabilities by place, in an order made for others: what a plan meets that was made
  // before the heat changed. Tokens are taken to choose independently.
  static NeuronHeat InPlaces(std::vector<double> fires);

  int64_t n_ff() const { return static_cast<int64_t>(fires_.size()); }
  // Probability that a token needs the neuron, by place, not ascending.
  const std::vector<double>& fires() const { return fires_; }

  // Probability that at least one of `n_tokens` tokens needs the neuron, by place.
  //
  // Tokens that chose independently would need it with probability 1 - (1 - p)^n, and measured
  // unions are smaller, since the tokens of a text resemble each other. So n is replaced by the
  // number of independent tokens whose mean union is the measured one: a curve through all measured
  // points that keeps the order of the neurons.
  std::vector<double> Union(int64_t n_tokens) const;

 private:
  NeuronHeat(std::vector<double> fires, const model::UnionShares& unions);
  double MeanUnion(double n_independent) const;
  // Of independent tokens, as many as `n_tokens` real ones are worth; 1 to n_tokens.
  double IndependentTokens(int64_t n_tokens) const;

  std::vector<double> fires_;
  std::vector<double> independent_;  // by model::kUnionBatches; empty: not measured
};

// Of all layers. kInvalidArgument: the profile is of another shape than the model.
Result<std::vector<NeuronHeat>> HeatsOf(const model::SparsityProfile& profile,
                                        const model::ModelConfig& config);
std::vector<NeuronHeat> UniformHeats(const model::ModelConfig& config, double probability);
// Each layer's mean, for every neuron: all that a profile tells of neurons in another order.
std::vector<NeuronHeat> Levelled(const std::vector<NeuronHeat>& heats);

}  // namespace thermocline::placement
