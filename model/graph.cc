#include "model/graph.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/weight_table.h"

namespace thermocline::model {
namespace {

using Role = WeightRole;

// Appends ops and the values they write to one graph; lives in one Build function.
class GraphBuilder {
 public:
  GraphBuilder(const ModelConfig& config, const WeightIndex* weights, int layer,
               const FfnShare& share = {})
      : config_(config),
        weights_(weights),
        layer_(layer),
        n_neurons_(share.is_shared() ? share.n_neurons : config.n_ff) {}

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
  ValueId EmbedPosition() {
    return Append(OpKind::kEmbedPosition, {}, NewValue("position_embd", config_.n_embd),
                  {{kNoLayer, Role::kPositionEmbd}});
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
    Op& op = AppendOp(OpKind::kRope, {q, k}, {q, k}, {});
    if (Has(Role::kRopeFreqs)) op.weights.push_back(Key(Role::kRopeFreqs));
  }
  ValueId Attention(ValueId q, ValueId k, ValueId v) {
    const int64_t n_cols = graph_.values[static_cast<size_t>(q)].n_cols;
    return Append(OpKind::kAttention, {q, k, v}, NewValue("attn", n_cols), {});
  }
  // y of `heads` among those of all; `all` = kNoValue: they are the first.
  ValueId PlaceHeads(ValueId y, const HeadRange& heads, ValueId all) {
    const ValueId to = all == kNoValue ? NewValue("attn_all", config_.n_embd_q()) : all;
    AppendOp(OpKind::kPlaceHeads, Present({y, all}), {to}, {}).first_col = QueryCols(heads.begin);
    return to;
  }
  // Of so many KV heads with their query heads.
  int64_t QueryCols(int n_heads) const {
    return config_.n_embd_q() / std::max(1, config_.n_head_kv) * n_heads;
  }
  int64_t KvCols(int n_heads) const { return int64_t{config_.head_dim} * n_heads; }
  ValueId Add(ValueId a, ValueId b, std::string_view name) {
    return Append(OpKind::kAdd, {a, b}, NewValue(name, config_.n_embd), {});
  }
  ValueId Activate(Activation activation, std::initializer_list<ValueId> gate_and_up,
                   std::string_view name, int64_t n_cols) {
    const ValueId out = NewValue(name, n_cols);
    AppendOp(OpKind::kActivate, gate_and_up, {out}, {}).activation = activation;
    return out;
  }
  ValueId SelectActive(ValueId a) { return Append(OpKind::kSelectActive, {a}, NewIds(), {}); }
  ValueId SelectAtLeast(ValueId scores, float threshold) {
    const ValueId ids = NewIds();
    AppendOp(OpKind::kSelectAtLeast, {scores}, {ids}, {}).threshold = threshold;
    return ids;
  }
  void ZeroBelow(ValueId a, float threshold) {
    AppendOp(OpKind::kZeroBelow, {a}, {a}, {}).threshold = threshold;
  }
  // `gate_act`: already computed for all.
  ValueId FinishNeurons(ValueId x, ValueId ids, ValueId gate_act) {
    return Neurons({x, ids, gate_act}, WithOptional(Role::kFfnUp, Role::kFfnUpBias), 0);
  }
  ValueId PredictedNeurons(ValueId x, ValueId ids, ValueId scores, float threshold) {
    std::vector<WeightKey> weights;
    if (config_.ffn_gated) weights = WithOptional(Role::kFfnGate, Role::kFfnGateBias);
    for (const WeightKey& key : WithOptional(Role::kFfnUp, Role::kFfnUpBias)) {
      weights.push_back(key);
    }
    return Neurons({x, ids, scores}, std::move(weights), threshold);
  }
  // `ids` = kNoValue: every neuron.
  ValueId AxpyRows(ValueId a, ValueId ids) {
    return Append(OpKind::kAxpyRows, Present({a, ids}), NewValue("ffn_out", config_.n_embd),
                  WithOptional(Role::kFfnDownT, Role::kFfnDownBias));
  }
  // The same as sums, without the bias.
  ValueId AxpySums(ValueId a, ValueId ids) {
    return Append(OpKind::kAxpyRows, Present({a, ids}), NewSums("ffn_sums"),
                  {Key(Role::kFfnDownT)});
  }
  void AddSums(ValueId sums, ValueId part) { AppendOp(OpKind::kAddSums, {sums, part}, {sums}, {}); }
  // `part` = kNoValue: nothing more is added but the bias.
  ValueId RoundSums(ValueId sums, ValueId part) {
    std::vector<WeightKey> weights;
    if (Has(Role::kFfnDownBias)) weights.push_back(Key(Role::kFfnDownBias));
    return Append(OpKind::kRoundSums, Present({sums, part}), NewValue("ffn_out", config_.n_embd),
                  std::move(weights));
  }
  void Send(ValueId x, bool of_heads = false) {
    AppendOp(OpKind::kSend, {x}, {}, {}).of_heads = of_heads;
  }
  void Broadcast(ValueId x, bool of_heads = false) {
    AppendOp(OpKind::kBroadcast, {x}, {}, {}).of_heads = of_heads;
  }
  ValueId TakeBroadcast(std::string_view name, bool of_heads = false) {
    const ValueId x = NewValue(name, config_.n_embd);
    AppendOp(OpKind::kBroadcast, {}, {x}, {}).of_heads = of_heads;
    return x;
  }
  void Answer(ValueId y) {
    Op& op = AppendOp(OpKind::kSend, {y}, {}, {});
    op.of_heads = op.is_answer = true;
  }
  void SendInGroup(ValueId y) { AppendOp(OpKind::kGroupSend, {y}, {}, {}).of_heads = true; }
  ValueId ReceiveInGroup(int rank, const HeadRange& heads, bool is_last) {
    const ValueId y = NewValue("attn_part", QueryCols(heads.size()));
    Op& op = AppendOp(OpKind::kGroupReceive, {}, {y}, {});
    op.peer = rank, op.of_heads = true, op.ends_group = is_last;
    return y;
  }
  void GroupSum(ValueId sums) { AppendOp(OpKind::kGroupSum, {sums}, {sums}, {}); }
  ValueId ReceiveX(bool of_heads = false) {
    constexpr int kLead = 0;
    return Receive(kLead, NewValue("x", config_.n_embd), of_heads);
  }
  ValueId ReceiveSums(int peer) { return Receive(peer, NewSums("ffn_part"), false); }
  ValueId ReceiveHeads(int peer, const HeadRange& heads) {
    return Receive(peer, NewValue("attn_part", QueryCols(heads.size())), true);
  }

  void MarkScores(ValueId value) {
    graph_.values[static_cast<size_t>(value)].kind = ValueKind::kScores;
  }
  void BeginFfn() { graph_.ffn_begin = graph_.ops.size(); }
  int64_t n_neurons() const { return n_neurons_; }
  bool Has(Role role) const { return weights_->Find(role, Key(role).layer) != nullptr; }

 private:
  WeightKey Key(Role role) const { return {SpecOf(role).per_layer ? layer_ : kNoLayer, role}; }

  std::vector<WeightKey> WithOptional(Role weight, Role optional) const {
    std::vector<WeightKey> keys = {Key(weight)};
    if (Has(optional)) keys.push_back(Key(optional));
    return keys;
  }

  ValueId Neurons(std::vector<ValueId> inputs, std::vector<WeightKey> weights, float threshold) {
    const ValueId out = NewValue("ffn_act", n_neurons_);
    Op& op = AppendOp(OpKind::kNeurons, std::move(inputs), {out}, std::move(weights));
    op.activation = config_.activation;
    op.activates_up = config_.ffn_up_activated;
    op.threshold = threshold;
    return out;
  }

  ValueId NewIds() { return NewValue("ffn_ids", n_neurons_, ValueKind::kActiveIds); }
  ValueId NewSums(std::string_view name) {
    return NewValue(name, config_.n_embd, ValueKind::kSums);
  }

  ValueId NewValue(std::string_view name, int64_t n_cols, ValueKind kind = ValueKind::kRows) {
    std::string full = layer_ == kNoLayer ? std::string(name) : Str(name, "-", layer_);
    graph_.values.push_back({std::move(full), n_cols, kind});
    return static_cast<ValueId>(graph_.values.size()) - 1;
  }

  static std::vector<ValueId> Present(std::initializer_list<ValueId> values) {
    std::vector<ValueId> present;
    for (const ValueId value : values) {
      if (value != kNoValue) present.push_back(value);
    }
    return present;
  }

  ValueId Receive(int peer, ValueId output, bool of_heads) {
    Op& op = AppendOp(OpKind::kReceive, {}, {output}, {});
    op.peer = peer, op.of_heads = of_heads;
    return output;
  }

  ValueId Append(OpKind kind, std::vector<ValueId> inputs, ValueId output,
                 std::vector<WeightKey> weights) {
    AppendOp(kind, std::move(inputs), {output}, std::move(weights));
    return output;
  }

  Op& AppendOp(OpKind kind, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
               std::vector<WeightKey> weights) {
    graph_.ops.push_back({kind, layer_, std::move(inputs), std::move(outputs), std::move(weights)});
    return graph_.ops.back();
  }

  const ModelConfig& config_;
  const WeightIndex* weights_;  // null in the embed graph, which has no optional weights
  const int layer_;
  const int64_t n_neurons_;  // of the layer that are computed here
  Graph graph_;
};

// x -> y of some KV heads with their query heads.
ValueId AppendOwnHeads(const ModelConfig& config, int n_heads, ValueId x, GraphBuilder* b) {
  const ValueId h = b->Norm(x, Role::kAttnNorm, Role::kAttnNormBias, "attn_norm");
  const int64_t q_cols = b->QueryCols(n_heads), kv_cols = b->KvCols(n_heads);
  const ValueId q = b->MatMul(h, Role::kAttnQ, Role::kAttnQBias, "attn_q", q_cols);
  const ValueId k = b->MatMul(h, Role::kAttnK, Role::kAttnKBias, "attn_k", kv_cols);
  const ValueId v = b->MatMul(h, Role::kAttnV, Role::kAttnVBias, "attn_v", kv_cols);
  if (config.rope.n_rot > 0) b->Rope(q, k);
  return b->Attention(q, k, v);
}

// The same of all heads, of which the others come from other members.
ValueId AppendSharedHeads(const ModelConfig& config, const HeadShare& heads, ValueId x,
                          GraphBuilder* b) {
  if (!heads.by_link.empty()) b->Send(x, true);
  if (!heads.by_group.empty()) b->Broadcast(x, true);
  const ValueId own = AppendOwnHeads(config, heads.own.size(), x, b);
  ValueId all = b->PlaceHeads(own, heads.own, kNoValue);
  for (size_t i = 0; i < heads.by_group.size(); ++i) {
    const bool is_last = i + 1 == heads.by_group.size();
    const HeadRange& range = heads.by_group[i];
    all = b->PlaceHeads(b->ReceiveInGroup(static_cast<int>(i) + 1, range, is_last), range, all);
  }
  for (size_t i = 0; i < heads.by_link.size(); ++i) {
    const HeadRange& range = heads.by_link[i];
    all = b->PlaceHeads(b->ReceiveHeads(static_cast<int>(i) + 1, range), range, all);
  }
  return all;
}

// x -> x + attention(norm(x)).
ValueId AppendAttention(const ModelConfig& config, const HeadShare& heads, ValueId x,
                        GraphBuilder* b) {
  const ValueId attn = heads.is_shared() ? AppendSharedHeads(config, heads, x, b)
                                         : AppendOwnHeads(config, config.n_head_kv, x, b);
  const ValueId out =
      b->MatMul(attn, Role::kAttnOutput, Role::kAttnOutputBias, "attn_out", config.n_embd);
  return b->Add(x, out, "attn_residual");
}

// The neurons' activations and, unless all are computed, the ids of those that are.
struct Neurons {
  ValueId activations = kNoValue;
  ValueId ids = kNoValue;
};

ValueId AppendGate(ValueId h, GraphBuilder* b) {
  return b->MatMul(h, Role::kFfnGate, Role::kFfnGateBias, "ffn_gate", b->n_neurons());
}

ValueId AppendUp(ValueId h, GraphBuilder* b) {
  return b->MatMul(h, Role::kFfnUp, Role::kFfnUpBias, "ffn_up", b->n_neurons());
}

ValueId AppendActivation(const ModelConfig& config, std::initializer_list<ValueId> gate_and_up,
                         std::string_view name, GraphBuilder* b) {
  return b->Activate(config.activation, gate_and_up, name, b->n_neurons());
}

Neurons AppendDenseNeurons(const ModelConfig& config, ValueId h, GraphBuilder* b) {
  if (!config.ffn_gated) {
    return {AppendActivation(config, {AppendUp(h, b)}, "ffn_act", b), kNoValue};
  }
  const ValueId gate = AppendGate(h, b);
  ValueId up = AppendUp(h, b);
  if (config.ffn_up_activated) up = AppendActivation(config, {up}, "ffn_up_act", b);
  return {AppendActivation(config, {gate, up}, "ffn_act", b), kNoValue};
}

// Exact and thresholded: the first matrix for all, the rest where its activation remains. A
// negative threshold leaves all but exact zeros.
Neurons AppendRemainingNeurons(const ModelConfig& config, float threshold, ValueId h,
                               GraphBuilder* b) {
  const ValueId first = config.ffn_gated ? AppendGate(h, b) : AppendUp(h, b);
  const ValueId act =
      AppendActivation(config, {first}, config.ffn_gated ? "ffn_gate_act" : "ffn_act", b);
  if (threshold >= 0) b->ZeroBelow(act, threshold);
  const ValueId ids = b->SelectActive(act);
  return {config.ffn_gated ? b->FinishNeurons(h, ids, act) : act, ids};
}

// `x` is the residual stream, `h` its norm.
Neurons AppendPredictedNeurons(const LayerSparsity& layer, ValueId x, ValueId h, GraphBuilder* b) {
  const ValueId input = layer.input == PredictorInput::kResidual ? x : h;
  ValueId hidden = b->MatMul(input, Role::kPredictorFc1, "ffn_predictor", layer.n_hidden);
  if (layer.predictor == PredictorKind::kRelu) {
    hidden = b->Activate(Activation::kRelu, {hidden}, "ffn_predictor_act", layer.n_hidden);
  }
  const ValueId scores = b->MatMul(hidden, Role::kPredictorFc2, "ffn_scores", b->n_neurons());
  b->MarkScores(scores);
  const ValueId ids = b->SelectAtLeast(scores, layer.predictor_threshold);
  return {b->PredictedNeurons(h, ids, scores, layer.predictor_threshold), ids};
}

Neurons AppendNeurons(const ModelConfig& config, const FfnOptions& ffn, ValueId x, ValueId h,
                      GraphBuilder* b) {
  constexpr float kNoThreshold = -1;
  switch (ffn.mode) {
    case FfnMode::kDense:
      return AppendDenseNeurons(config, h, b);
    case FfnMode::kExact:
      return AppendRemainingNeurons(config, kNoThreshold, h, b);
    case FfnMode::kPredicted:
      return AppendPredictedNeurons(ffn.sparsity, x, h, b);
    case FfnMode::kThresholded:
      return AppendRemainingNeurons(config, ffn.sparsity.activation_threshold, h, b);
  }
  CHECK(false);
}

// The sum over the neurons held here, `as_sums` before it is rounded and has its bias; `x` is the
// residual stream.
ValueId AppendOwnNeurons(const ModelConfig& config, const FfnOptions& ffn, bool as_sums, ValueId x,
                         GraphBuilder* b) {
  const bool down_by_neuron = ffn.down_by_neuron || ffn.share.is_shared() ||
                              ffn.mode != FfnMode::kDense || !b->Has(Role::kFfnDown);
  const ValueId h = b->Norm(x, Role::kFfnNorm, Role::kFfnNormBias, "ffn_norm");
  const Neurons neurons = AppendNeurons(config, ffn, x, h, b);
  if (as_sums) return b->AxpySums(neurons.activations, neurons.ids);
  if (down_by_neuron) return b->AxpyRows(neurons.activations, neurons.ids);
  return b->MatMul(neurons.activations, Role::kFfnDown, Role::kFfnDownBias, "ffn_out",
                   config.n_embd);
}

// What all members that share the layer have, the lead's being `own`.
ValueId AppendTotal(const FfnShare& share, ValueId own, GraphBuilder* b) {
  if (share.in_group) b->GroupSum(own);
  ValueId last = kNoValue;
  for (int helper = 1; helper <= share.n_helpers; ++helper) {
    if (last != kNoValue) b->AddSums(own, last);
    last = b->ReceiveSums(helper);
  }
  return b->RoundSums(own, last);
}

// x -> x + ffn(norm(x)).
ValueId AppendFfn(const ModelConfig& config, const FfnOptions& ffn, ValueId x, GraphBuilder* b) {
  b->BeginFfn();
  if (ffn.share.n_helpers > 0) b->Send(x);
  if (ffn.share.in_group) b->Broadcast(x);
  ValueId out = AppendOwnNeurons(config, ffn, ffn.share.has_others(), x, b);
  if (ffn.share.has_others()) out = AppendTotal(ffn.share, out, b);
  return b->Add(x, out, "ffn_residual");
}

}  // namespace

const char* OpKindName(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbed:
      return "embed";
    case OpKind::kEmbedPosition:
      return "embed_position";
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
    case OpKind::kSelectAtLeast:
      return "select_at_least";
    case OpKind::kZeroBelow:
      return "zero_below";
    case OpKind::kNeurons:
      return "neurons";
    case OpKind::kAxpyRows:
      return "axpy_rows";
    case OpKind::kAddSums:
      return "add_sums";
    case OpKind::kRoundSums:
      return "round_sums";
    case OpKind::kSend:
      return "send";
    case OpKind::kReceive:
      return "receive";
    case OpKind::kBroadcast:
      return "broadcast";
    case OpKind::kGroupSum:
      return "group_sum";
    case OpKind::kGroupSend:
      return "group_send";
    case OpKind::kGroupReceive:
      return "group_receive";
    case OpKind::kPlaceHeads:
      return "place_heads";
  }
  return "?";
}

ValueId InputOf(const Graph& graph, const Op& op, ValueKind kind) {
  for (const ValueId id : op.inputs) {
    if (graph.values[static_cast<size_t>(id)].kind == kind) return id;
  }
  return kNoValue;
}

ValueId ActiveIdsOf(const Graph& graph, const Op& op) {
  return InputOf(graph, op, ValueKind::kActiveIds);
}

Graph BuildLayerGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const FfnOptions& ffn) {
  CHECK(LayerFfnMode(config, ffn.sparsity, ffn.mode) == ffn.mode);
  CHECK(ffn.mode != FfnMode::kExact || config.relu_family());
  GraphBuilder builder(config, &weights, layer, ffn.share);
  const ValueId x = builder.Input("x", config.n_embd);
  const ValueId after_attention = AppendAttention(config, ffn.heads, x, &builder);
  const ValueId output = AppendFfn(config, ffn, after_attention, &builder);
  return std::move(builder).Finish(output);
}

Graph BuildHelperGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                       const FfnOptions& ffn) {
  CHECK(LayerFfnMode(config, ffn.sparsity, ffn.mode) == ffn.mode && ffn.share.is_shared());
  GraphBuilder builder(config, &weights, layer, ffn.share);
  const bool in_group = ffn.share.in_group;
  const ValueId x = in_group ? builder.TakeBroadcast("x") : builder.ReceiveX();
  const ValueId sum = AppendOwnNeurons(config, ffn, true, x, &builder);
  in_group ? builder.GroupSum(sum) : builder.Send(sum);
  return std::move(builder).Finish(sum);
}

Graph BuildHeadsGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const HeadShare& heads) {
  CHECK(heads.is_shared());
  GraphBuilder builder(config, &weights, layer);
  const ValueId x = heads.in_group ? builder.TakeBroadcast("x", true) : builder.ReceiveX(true);
  const ValueId y = AppendOwnHeads(config, heads.own.size(), x, &builder);
  heads.in_group ? builder.SendInGroup(y) : builder.Answer(y);
  return std::move(builder).Finish(y);
}

Graph BuildEmbedGraph(const ModelConfig& config) {
  GraphBuilder builder(config, nullptr, kNoLayer);
  ValueId x = builder.Embed();
  if (config.has_learned_positions()) x = builder.Add(x, builder.EmbedPosition(), "embd_sum");
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
