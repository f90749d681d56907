#include "coordinator/replan_rule.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace thermocline::coordinator {
namespace {

using model::NeuronRange;
using placement::Plan;
using placement::StagePlan;

// Of each worker and layer: the neurons and heads it holds; a lead holds the rest of the layer too.
struct Held {
  NeuronRange neurons;
  model::HeadRange heads;
  bool is_lead = false;
  double layer_bytes = 0;  // of the whole layer
};
using Holdings = std::map<std::pair<WorkerId, int>, Held>;

double LayerBytes(const StagePlan& stage) {
  uint64_t n_bytes = stage.weights_bytes;
  for (const placement::HelperPlan& helper : stage.helpers) n_bytes += helper.bytes.weights;
  return static_cast<double>(n_bytes) / (stage.layers.end - stage.layers.begin);
}

Holdings HoldingsOf(const Plan& plan, const model::ModelConfig& config) {
  Holdings holdings;
  for (const StagePlan& stage : plan.stages) {
    for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
      const auto at = static_cast<size_t>(layer - stage.layers.begin);
      const NeuronRange own =
          stage.neurons.empty() ? NeuronRange{0, config.n_ff} : stage.neurons[at];
      holdings[{stage.lead, layer}] = {own, placement::HeadsOf(stage, config), true,
                                       LayerBytes(stage)};
      for (const placement::HelperPlan& helper : stage.helpers) {
        holdings[{helper.worker, layer}] = {helper.neurons[at], helper.heads, false,
                                            LayerBytes(stage)};
      }
    }
  }
  return holdings;
}

// One layer's neurons in two orders; empty ones are the file's.
struct Orders {
  std::span<const int32_t> now, next;
  bool are_equal() const { return std::equal(now.begin(), now.end(), next.begin(), next.end()); }
};

size_t NeuronAt(std::span<const int32_t> order, int64_t place) {
  return static_cast<size_t>(order.empty() ? place : order[static_cast<size_t>(place)]);
}

// How many neurons are in both intervals.
int64_t CountCommon(const NeuronRange& next, const NeuronRange& now, const Orders& orders,
                    int64_t n_ff) {
  if (orders.are_equal()) {
    return std::max<int64_t>(0, std::min(next.end, now.end) - std::max(next.begin, now.begin));
  }
  std::vector<bool> is_here(static_cast<size_t>(n_ff));
  for (int64_t place = now.begin; place < now.end; ++place) {
    is_here[NeuronAt(orders.now, place)] = true;
  }
  int64_t n = 0;
  for (int64_t place = next.begin; place < next.end; ++place) {
    n += is_here[NeuronAt(orders.next, place)];
  }
  return n;
}

// Of the weights of attention, the share that goes with its heads: rows of query, key and value.
// The rest, attn_output, is as large as the query's.
double ShareOfHeads(const model::ModelConfig& config) {
  const auto n_rows = static_cast<double>(config.n_embd_q() + 2 * config.n_embd_kv());
  return n_rows > 0 ? n_rows / (n_rows + static_cast<double>(config.n_embd_q())) : 0;
}

// Of the layer's heads, the share that `next` has and `now` has not.
double MissingHeads(const model::HeadRange& next, const model::HeadRange& now, int n_head_kv) {
  const int common = std::max(0, std::min(next.end, now.end) - std::max(next.begin, now.begin));
  return n_head_kv > 0 ? static_cast<double>(next.size() - common) / n_head_kv : 0;
}

// Of the layer's bytes, the share that `next` has and `now` has not. Attention and norms are taken
// for a third of a layer, as they are where n_ff is 4 n_embd.
double MissingShare(const Held& next, const Held& now, const Orders& orders,
                    const model::ModelConfig& config) {
  const int64_t common = CountCommon(next.neurons, now.neurons, orders, config.n_ff);
  const double neurons =
      static_cast<double>(next.neurons.size() - common) / static_cast<double>(config.n_ff);
  const double of_heads = ShareOfHeads(config);
  const double rest = next.is_lead && !now.is_lead ? 1 - of_heads : 0;
  const double attention = of_heads * MissingHeads(next.heads, now.heads, config.n_head_kv) + rest;
  return neurons * 2 / 3 + attention / 3;
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

uint64_t BytesToRead(const OrderedPlan& now, const OrderedPlan& next,
                     const model::ModelConfig& config) {
  const Holdings before = HoldingsOf(now.plan, config);
  std::map<WorkerId, double> missing;
  for (const auto& [key, held] : HoldingsOf(next.plan, config)) {
    const auto& [worker, layer] = key;
    const auto found = before.find(key);
    const Orders orders{now.order.Of(layer), next.order.Of(layer)};
    missing[worker] +=
        held.layer_bytes *
        MissingShare(held, found == before.end() ? Held{} : found->second, orders, config);
  }
  double most = 0;
  for (const auto& [worker, n_bytes] : missing) most = std::max(most, n_bytes);
  return static_cast<uint64_t>(std::llround(most));
}

}  // namespace thermocline::coordinator
