#include "coordinator/replan_rule.h"

#include <algorithm>
#include <map>
#include <utility>

namespace thermocline::coordinator {
namespace {

using model::NeuronRange;
using placement::Plan;
using placement::StagePlan;

// Of each worker and layer: the neurons it holds; a lead holds the rest of the layer too.
struct Held {
  NeuronRange neurons;
  bool is_lead = false;
  double layer_bytes = 0;  // of the whole layer
};
using Holdings = std::map<std::pair<WorkerId, int>, Held>;

double LayerBytes(const StagePlan& stage) {
  uint64_t n_bytes = stage.weights_bytes;
  for (const placement::HelperPlan& helper : stage.helpers) n_bytes += helper.bytes.weights;
  return static_cast<double>(n_bytes) / (stage.layers.end - stage.layers.begin);
}

Holdings HoldingsOf(const Plan& plan, int64_t n_ff) {
  Holdings holdings;
  for (const StagePlan& stage : plan.stages) {
    for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
      const auto at = static_cast<size_t>(layer - stage.layers.begin);
      const NeuronRange own = stage.neurons.empty() ? NeuronRange{0, n_ff} : stage.neurons[at];
      holdings[{stage.lead, layer}] = {own, true, LayerBytes(stage)};
      for (const placement::HelperPlan& helper : stage.helpers) {
        holdings[{helper.worker, layer}] = {helper.neurons[at], false, LayerBytes(stage)};
      }
    }
  }
  return holdings;
}

// Of the layer's bytes, the share that `next` has and `now` has not. Attention and norms are taken
// for a third of a layer, as they are where n_ff is 4 n_embd.
double MissingShare(const Held& next, const Held& now, int64_t n_ff) {
  const int64_t common = std::max<int64_t>(0, std::min(next.neurons.end, now.neurons.end) -
                                                  std::max(next.neurons.begin, now.neurons.begin));
  const double neurons =
      static_cast<double>(next.neurons.size() - common) / static_cast<double>(n_ff);
  const double rest = next.is_lead && !now.is_lead ? 1.0 / 3 : 0;
  return neurons * 2 / 3 + rest;
}

}  // namespace

double GainOf(const ReplanCase& facts) {
  return facts.now_s > 0 ? 1 - facts.next_s / facts.now_s : 0;
}

double PauseOf(const ReplanCase& facts) {
  const double load_s = facts.read_bytes_per_s > 0
                            ? static_cast<double>(facts.bytes_to_read) / facts.read_bytes_per_s
                            : 0;
  return load_s + static_cast<double>(facts.n_tokens) * facts.step_s;
}

bool IsWorthIt(const ReplanCase& facts) {
  const double gain = GainOf(facts);
  return gain >= kLeastGain && gain * kReplanHorizon_s > PauseOf(facts);
}

uint64_t BytesToRead(const Plan& now, const Plan& next, int64_t n_ff) {
  const Holdings before = HoldingsOf(now, n_ff);
  std::map<WorkerId, double> missing;
  for (const auto& [key, held] : HoldingsOf(next, n_ff)) {
    const auto found = before.find(key);
    const double share = MissingShare(held, found == before.end() ? Held{} : found->second, n_ff);
    missing[key.first] += share * held.layer_bytes;
  }
  double most = 0;
  for (const auto& [worker, n_bytes] : missing) most = std::max(most, n_bytes);
  return static_cast<uint64_t>(most);
}

}  // namespace thermocline::coordinator
