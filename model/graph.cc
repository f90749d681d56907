#include "model/graph.h"

#include <initializer_list>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "model/weight_table.h"

namespace thermocline::model {
namespace {

using Role = WeightRole;

// Appends ops and the values they write to one graph; lives in one Build function.
class GraphBuilder {
 public:
  GraphBuilder(const ModelConfig& config, const WeightIndex* weights, int layer)
      : config_(config), weights_(weights), layer_(layer) {}

  ValueId Input(std::string_view name, int64_t n_cols) {
    graph_.input = NewValue(name, n_cols);
    return graph_.input;
  }
  Graph Finish(ValueId output) && {
    graph_.output = output;
    return std::move(graph_);
  }

  ValueId Embed() {
    return Append(OpKind::kEmbed, {}, NewValue("embd", config_.n_embd),
                  {{kNoLayer, Role::kTokenEmbd}});
  }
  ValueId Norm(ValueId x, Role weight, Role bias, std::string_view name) {
    return Append(OpKind::kNorm, {x}, NewValue(name, config_.n_embd), WithOptional(weight, bias));
  }
  ValueId MatMul(ValueId x, Role weight, std::string_view name, int64_t n_cols) {
    return Append(OpKind::kMatMul, {x}, NewValue(name, n_cols), {Key(weight)});
  }
  ValueId MatMul(ValueId x, Role weight, Role bias, std::string_view name, int64_t n_cols) {
    return Append(OpKind::kMatMul, {x}, NewValue(name, n_cols), WithOptional(weight, bias));
  }
  void Rope(ValueId q, ValueId k) {
    Op op{OpKind::kRope, layer_, {q, k}, {q, k}, {}};
    if (Has(Role::kRopeFreqs)) op.weights.push_back(Key(Role::kRopeFreqs));
    graph_.ops.push_back(std::move(op));
  }
  ValueId Attention(ValueId q, ValueId k, ValueId v) {
    return Append(OpKind::kAttention, {q, k, v}, NewValue("attn", config_.n_embd_q()), {});
  }
  ValueId Add(ValueId a, ValueId b, std::string_view name) {
    return Append(OpKind::kAdd, {a, b}, NewValue(name, config_.n_embd), {});
  }
  ValueId Activate(std::initializer_list<ValueId> gate_and_up, std::string_view name) {
    return Append(OpKind::kActivate, gate_and_up, NewValue(name, config_.n_ff), {});
  }
  ValueId SelectActive(ValueId a) {
    const ValueId ids = NewValue("ffn_ids", config_.n_ff);
    graph_.values[static_cast<size_t>(ids)].is_active_ids = true;
    return Append(OpKind::kSelectActive, {a}, ids, {});
  }
  ValueId Neurons(ValueId x, ValueId ids, ValueId gate_act) {
    return Append(OpKind::kNeurons, {x, ids, gate_act}, NewValue("ffn_act", config_.n_ff),
                  WithOptional(Role::kFfnUp, Role::kFfnUpBias));
  }
  // `ids` = kNoValue: every neuron.
  ValueId AxpyRows(ValueId a, ValueId ids) {
    std::vector<ValueId> inputs = {a};
    if (ids != kNoValue) inputs.push_back(ids);
    return Append(OpKind::kAxpyRows, std::move(inputs), NewValue("ffn_out", config_.n_embd),
                  WithOptional(Role::kFfnDownT, Role::kFfnDownBias));
  }

  bool Has(Role role) const { return weights_->Find(role, Key(role).layer) != nullptr; }

 private:
  WeightKey Key(Role role) const { return {SpecOf(role).per_layer ? layer_ : kNoLayer, role}; }

  std::vector<WeightKey> WithOptional(Role weight, Role optional) const {
    std::vector<WeightKey> keys = {Key(weight)};
    if (Has(optional)) keys.push_back(Key(optional));
    return keys;
  }

  ValueId NewValue(std::string_view name, int64_t n_cols) {
    std::string full = layer_ == kNoLayer ? std::string(name) : Str(name, "-", layer_);
    graph_.values.push_back({std::move(full), n_cols, false});
    return static_cast<ValueId>(graph_.values.size()) - 1;
  }

  ValueId Append(OpKind kind, std::vector<ValueId> inputs, ValueId output,
                 std::vector<WeightKey> weights) {
    graph_.ops.push_back({kind, layer_, std::move(inputs), {output}, std::move(weights)});
    return output;
  }

  const ModelConfig& config_;
  const WeightIndex* weights_;  // null in the embed graph, which has no optional weights
  const int layer_;
  Graph graph_;
};

// x -> x + attention(norm(x)).
ValueId AppendAttention(const ModelConfig& config, ValueId x, GraphBuilder* b) {
  const ValueId h = b->Norm(x, Role::kAttnNorm, Role::kAttnNormBias, "attn_norm");
  const ValueId q = b->MatMul(h, Role::kAttnQ, Role::kAttnQBias, "attn_q", config.n_embd_q());
  const ValueId k = b->MatMul(h, Role::kAttnK, Role::kAttnKBias, "attn_k", config.n_embd_kv());
  const ValueId v = b->MatMul(h, Role::kAttnV, Role::kAttnVBias, "attn_v", config.n_embd_kv());
  b->Rope(q, k);
  const ValueId attn = b->Attention(q, k, v);
  const ValueId out =
      b->MatMul(attn, Role::kAttnOutput, Role::kAttnOutputBias, "attn_out", config.n_embd);
  return b->Add(x, out, "attn_residual");
}

// The neurons' activations and, in exact mode, the ids of those that are not 0.
struct Neurons {
  ValueId activations = kNoValue;
  ValueId ids = kNoValue;
};

Neurons AppendDenseNeurons(const ModelConfig& config, ValueId h, GraphBuilder* b) {
  if (!config.ffn_gated) {
    const ValueId up = b->MatMul(h, Role::kFfnUp, Role::kFfnUpBias, "ffn_up", config.n_ff);
    return {b->Activate({up}, "ffn_act"), kNoValue};
  }
  const ValueId gate = b->MatMul(h, Role::kFfnGate, Role::kFfnGateBias, "ffn_gate", config.n_ff);
  const ValueId up = b->MatMul(h, Role::kFfnUp, Role::kFfnUpBias, "ffn_up", config.n_ff);
  return {b->Activate({gate, up}, "ffn_act"), kNoValue};
}

Neurons AppendExactNeurons(const ModelConfig& config, ValueId h, GraphBuilder* b) {
  if (!config.ffn_gated) {
    const Neurons dense = AppendDenseNeurons(config, h, b);
    return {dense.activations, b->SelectActive(dense.activations)};
  }
  const ValueId gate = b->MatMul(h, Role::kFfnGate, Role::kFfnGateBias, "ffn_gate", config.n_ff);
  const ValueId gate_act = b->Activate({gate}, "ffn_gate_act");
  const ValueId ids = b->SelectActive(gate_act);
  return {b->Neurons(h, ids, gate_act), ids};
}

// x -> x + ffn(norm(x)).
ValueId AppendFfn(const ModelConfig& config, const FfnOptions& ffn, ValueId x, GraphBuilder* b) {
  const bool is_exact = ffn.mode == FfnMode::kExact;
  const bool down_by_neuron = ffn.down_by_neuron || is_exact || !b->Has(Role::kFfnDown);
  const ValueId h = b->Norm(x, Role::kFfnNorm, Role::kFfnNormBias, "ffn_norm");
  const Neurons neurons =
      is_exact ? AppendExactNeurons(config, h, b) : AppendDenseNeurons(config, h, b);
  const ValueId out = down_by_neuron ? b->AxpyRows(neurons.activations, neurons.ids)
                                     : b->MatMul(neurons.activations, Role::kFfnDown,
                                                 Role::kFfnDownBias, "ffn_out", config.n_embd);
  return b->Add(x, out, "ffn_residual");
}

}  // namespace

std::string_view FfnModeName(FfnMode mode) {
  switch (mode) {
    case FfnMode::kDense:
      return "dense";
    case FfnMode::kExact:
      return "exact";
  }
  return "?";
}

Result<FfnMode> ParseFfnMode(std::string_view name) {
  for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
    if (FfnModeName(mode) == name) return mode;
  }
  return InvalidArgument(Str("unknown --ffn \"", Printable(name), "\"; one of dense exact"));
}

const char* OpKindName(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbed:
      return "embed";
    case OpKind::kNorm:
      return "norm";
    case OpKind::kMatMul:
      return "matmul";
    case OpKind::kRope:
      return "rope";
    case OpKind::kAttention:
      return "attention";
    case OpKind::kAdd:
      return "add";
    case OpKind::kActivate:
      return "activate";
    case OpKind::kSelectActive:
      return "select_active";
    case OpKind::kNeurons:
      return "neurons";
    case OpKind::kAxpyRows:
      return "axpy_rows";
  }
  return "?";
}

ValueId ActiveIdsOf(const Graph& graph, const Op& op) {
  for (const ValueId id : op.inputs) {
    if (graph.values[static_cast<size_t>(id)].is_active_ids) return id;
  }
  return kNoValue;
}

Status CheckFfnMode(const ModelConfig& config, FfnMode mode) {
  if (mode == FfnMode::kDense || config.relu_family()) return OkStatus();
  return InvalidArgument(Str(
      "FFN mode ", FfnModeName(mode), " needs an activation with exact zeros (relu, relu2); this ",
      config.arch_name, " model has ", ActivationName(config.activation), ": use dense"));
}

Graph BuildLayerGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const FfnOptions& ffn) {
  CHECK(CheckFfnMode(config, ffn.mode).ok());
  GraphBuilder builder(config, &weights, layer);
  const ValueId x = builder.Input("x", config.n_embd);
  const ValueId after_attention = AppendAttention(config, x, &builder);
  const ValueId output = AppendFfn(config, ffn, after_attention, &builder);
  return std::move(builder).Finish(output);
}

Graph BuildEmbedGraph(const ModelConfig& config) {
  GraphBuilder builder(config, nullptr, kNoLayer);
  const ValueId x = builder.Embed();
  return std::move(builder).Finish(x);
}

Graph BuildHeadGraph(const ModelConfig& config, const WeightIndex& weights) {
  GraphBuilder builder(config, &weights, kNoLayer);
  const ValueId x = builder.Input("x", config.n_embd);
  const ValueId h = builder.Norm(x, Role::kOutputNorm, Role::kOutputNormBias, "output_norm");
  const Role head = builder.Has(Role::kOutput) ? Role::kOutput : Role::kTokenEmbd;
  const ValueId logits = builder.MatMul(h, head, "logits", config.n_vocab);
  return std::move(builder).Finish(logits);
}

uint64_t WeightBytes(const Op& op, const WeightIndex& weights) {
  uint64_t n_bytes = 0;
  for (const WeightKey& key : op.weights) {
    const TensorInfo* tensor = weights.Find(key.role, key.layer);
    if (tensor == nullptr && key.role == Role::kFfnDownT) {
      tensor = weights.Find(Role::kFfnDown, key.layer);
    }
    CHECK(tensor != nullptr);
    n_bytes += tensor->size_bytes;
  }
  return n_bytes;
}

}  // namespace thermocline::model
