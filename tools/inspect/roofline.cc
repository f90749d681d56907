#include "tools/inspect/roofline.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/graph.h"

namespace thermocline::tools {
namespace {

using model::Graph;
using model::Op;
using model::OpKind;

// Adds the ops of graphs to a StepCost, one line per kind and weight.
class CostWalk {
 public:
  CostWalk(const model::ModelConfig& config, const model::WeightIndex& weights,
           const StepShape& shape)
      : config_(config), weights_(weights), shape_(shape) {
    cost_.n_tokens = shape.n_tokens;
  }

  void Add(const Graph& graph, int64_t n_tokens) {
    for (const Op& op : graph.ops) AddOp(graph, op, n_tokens);
  }
  StepCost Finish() && { return std::move(cost_); }

 private:
  void AddOp(const Graph& graph, const Op& op, int64_t n_tokens) {
    const model::TensorInfo* const weight = WeightOf(op);
    OpCost& line = LineOf(op, weight);
    ++line.count;
    if (op.kind == OpKind::kAttention) {
      AddAttention(&line, n_tokens);
    } else if (op.kind == OpKind::kEmbed || op.kind == OpKind::kEmbedPosition) {
      line.bytes += static_cast<double>(RowBytes(
          weight->dtype, static_cast<uint64_t>(n_tokens) * static_cast<uint64_t>(config_.n_embd)));
    } else {
      AddProducts(graph, op, n_tokens, &line);
    }
  }

  // Every matrix that the op names is read and multiplied, or the rows of its active neurons:
  // each row once for the step, multiplied for the tokens that need it.
  void AddProducts(const Graph& graph, const Op& op, int64_t n_tokens, OpCost* line) const {
    const bool sparse = model::ActiveIdsOf(graph, op) != model::kNoValue;
    const double share = sparse ? DensityOf(op.layer) : 1;
    const double read_share = 1 - std::pow(1 - share, static_cast<double>(n_tokens));
    for (const model::WeightKey& key : op.weights) {
      const model::TensorInfo* const tensor = Find(key);
      line->bytes += read_share * static_cast<double>(tensor->size_bytes);
      if (tensor->shape.size() < 2) continue;
      const auto n_params = static_cast<double>(tensor->n_rows() * tensor->n_cols());
      line->flops += 2 * share * n_params * static_cast<double>(n_tokens);
    }
  }

  // Token t reads the keys and values of n_context + t + 1 positions and multiplies both.
  void AddAttention(OpCost* line, int64_t n_tokens) const {
    const auto n = static_cast<double>(n_tokens);
    const auto last = static_cast<double>(shape_.n_context + n_tokens);
    const double mean = static_cast<double>(shape_.n_context) + (n + 1) / 2;
    line->flops += 4 * n * mean * static_cast<double>(config_.n_embd_q());
    line->bytes += 2 * last * static_cast<double>(config_.n_embd_kv()) *
                   static_cast<double>(Traits(shape_.kv_dtype).block_bytes);
  }

  double DensityOf(int layer) const {
    const auto i = static_cast<size_t>(layer);
    return i < shape_.densities.size() ? shape_.densities[i] : 1;
  }

  const model::TensorInfo* Find(const model::WeightKey& key) const {
    const model::TensorInfo* tensor = weights_.Find(key.role, key.layer);
    if (tensor == nullptr && key.role == model::WeightRole::kFfnDownT) {
      tensor = weights_.Find(model::WeightRole::kFfnDown, key.layer);
    }
    CHECK(tensor != nullptr);
    return tensor;
  }

  // The weight that names the op; null when it has none.
  const model::TensorInfo* WeightOf(const Op& op) const {
    return op.weights.empty() ? nullptr : Find(op.weights.front());
  }

  OpCost& LineOf(const Op& op, const model::TensorInfo* weight) {
    std::string name = model::OpKindName(op.kind);
    if (weight != nullptr) {
      const std::string_view role = model::WeightRoleName(op.weights.front().role);
      name += Str(" ", role.substr(0, role.rfind('.')));
    }
    const DType dtype = weight != nullptr ? weight->dtype : DType::kF32;
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
