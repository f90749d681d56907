#include "tools/inspect/roofline.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/graph.h"
#include "placement/op_load.h"

namespace thermocline::tools {
namespace {

// Adds the ops of graphs to a StepCost, one line per kind and weight. What an op costs placement
// counts, for plans and rooflines alike.
class CostWalk {
 public:
  CostWalk(const model::ModelConfig& config, const model::WeightIndex& weights,
           const StepShape& shape)
      : config_(config), weights_(weights), shape_(shape) {
    cost_.n_tokens = shape.n_tokens;
  }

  void Add(const model::Graph& graph, int64_t n_tokens) {
    const placement::StepShape step{
        .n_tokens = n_tokens, .n_context = shape_.n_context, .kv_dtype = shape_.kv_dtype};
    const auto loads = placement::LoadsOf(graph, config_, weights_, step);
    for (size_t i = 0; i < loads.size(); ++i) {
      const placement::NeuronShare share = ShareOf(graph.ops[i].layer, n_tokens);
      OpCost& line = LineOf(graph.ops[i], loads[i]);
      ++line.count;
      line.bytes += loads[i].Bytes(share);
      line.flops += loads[i].Flops(share);
    }
  }
  StepCost Finish() && { return std::move(cost_); }

 private:
  placement::NeuronShare ShareOf(int layer, int64_t n_tokens) const {
    placement::NeuronShare share = placement::NeuronShare::All(config_.n_ff, n_tokens);
    const bool dense = shape_.ffn == model::FfnMode::kDense || shape_.densities.layers.empty();
    if (dense || layer == model::kNoLayer) return share;
    share.uses *= shape_.densities.ShareOf(layer, 1);
    share.active *= shape_.densities.ShareOf(layer, n_tokens);
    share.selected = share.active;
    return share;
  }

  OpCost& LineOf(const model::Op& op, const placement::OpLoad& load) {
    std::string name = model::OpKindName(op.kind);
    const bool has_weight = !op.weights.empty();
    if (has_weight) {
      const std::string_view role = model::WeightRoleName(op.weights.front().role);
      name += Str(" ", role.substr(0, role.rfind('.')));
    }
    const DType dtype = has_weight ? load.dtype : DType::kF32;
    const auto at = std::find_if(cost_.ops.begin(), cost_.ops.end(), [&](const OpCost& line) {
      return line.name == name && line.dtype == dtype;
    });
    if (at != cost_.ops.end()) return *at;
    cost_.ops.push_back({std::move(name), dtype});
    return cost_.ops.back();
  }

  const model::ModelConfig& config_;
  const model::WeightIndex& weights_;
  const StepShape& shape_;
  StepCost cost_;
};

// As a stage lowers the layer.
model::FfnOptions FfnOptionsOf(const model::ModelConfig& config, const StepShape& shape,
                               int layer) {
  model::LayerSparsity sparsity;
  if (shape.sparsity != nullptr) sparsity = shape.sparsity->layers[static_cast<size_t>(layer)];
  return {model::LayerFfnMode(config, sparsity, shape.ffn),
          model::FfnModes(shape.ffn).needs_neuron_rows(), sparsity};
}

}  // namespace

double StepCost::bytes() const {
  double sum = 0;
  for (const OpCost& op : ops) sum += op.bytes;
  return sum;
}

double StepCost::flops() const {
  double sum = 0;
  for (const OpCost& op : ops) sum += op.flops;
  return sum;
}

StepCost CostOf(const model::ModelConfig& config, const model::WeightIndex& weights,
                const StepShape& shape) {
  CostWalk walk(config, weights, shape);
  walk.Add(model::BuildEmbedGraph(config), shape.n_tokens);
  for (int layer = 0; layer < config.n_layer; ++layer) {
    walk.Add(model::BuildLayerGraph(config, weights, layer, FfnOptionsOf(config, shape, layer)),
             shape.n_tokens);
  }
  walk.Add(model::BuildHeadGraph(config, weights), 1);
  return std::move(walk).Finish();
}

const char* BoundName(Bound bound) {
  switch (bound) {
    case Bound::kNothing:
      return "-";
    case Bound::kMemory:
      return "memory";
    case Bound::kCompute:
      return "compute";
  }
  return "?";
}

Prediction PredictOp(const OpCost& op, int64_t n_tokens, const MachineRates& rates) {
  const auto known = rates.flops.find(op.dtype);
  const FlopRates& flops = known != rates.flops.end() ? known->second : rates.flops.at(DType::kF32);
  const double flops_per_s = n_tokens == 1 ? flops.decode_per_s : flops.prefill_per_s;
  const double memory = op.bytes / rates.bytes_per_s;
  const double compute = op.flops / flops_per_s;
  if (memory == 0 && compute == 0) return {};
  return {memory >= compute ? Bound::kMemory : Bound::kCompute, std::max(memory, compute)};
}

double PredictSeconds(const StepCost& cost, const MachineRates& rates) {
  double seconds = 0;
  for (const OpCost& op : cost.ops) seconds += PredictOp(op, cost.n_tokens, rates).seconds;
  return seconds;
}

}  // namespace thermocline::tools
