#include "tools/inspect/roofline.h"

#include <algorithm>
#include <optional>
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
    const auto weight = WeightOf(op);
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
    const double share = sparse ? ShareOf(op.layer, 1) : 1;
    const double read_share = sparse ? ShareOf(op.layer, n_tokens) : 1;
    for (const model::WeightKey& key : op.weights) {
      const model::HeldWeight held = Held(key);
      line->bytes += read_share * static_cast<double>(held.size_bytes());
      if (held.n_rows < 2) continue;
      const auto n_params = static_cast<double>(held.n_rows * held.n_cols);
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

  double ShareOf(int layer, int64_t n_tokens) const {
    return shape_.densities.layers.empty() ? 1 : shape_.densities.ShareOf(layer, n_tokens);
  }

  model::HeldWeight Held(const model::WeightKey& key) const {
    const bool neuron_rows = model::FfnModes(shape_.ffn).needs_neuron_rows();
    const model::TensorInfo* tensor = weights_.Find(key.role, key.layer);
    if (tensor != nullptr) return model::HeldAs(key.role, *tensor, neuron_rows);
    // Neuron rows that a worker makes of the file's columns.
    CHECK(key.role == model::WeightRole::kFfnDownT);
    constexpr auto kInFile = model::WeightRole::kFfnDown;
    tensor = weights_.Find(kInFile, key.layer);
    CHECK(tensor != nullptr);
    return model::HeldAs(kInFile, *tensor, true);
  }

  // The weight that names the op; nothing when it has none.
  std::optional<model::HeldWeight> WeightOf(const Op& op) const {
    if (op.weights.empty()) return std::nullopt;
    return Held(op.weights.front());
  }

  OpCost& LineOf(const Op& op, const std::optional<model::HeldWeight>& weight) {
    std::string name = model::OpKindName(op.kind);
    if (weight) {
      const std::string_view role = model::WeightRoleName(op.weights.front().role);
      name += Str(" ", role.substr(0, role.rfind('.')));
    }
    const DType dtype = weight ? weight->dtype : DType::kF32;
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
