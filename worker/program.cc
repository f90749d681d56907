#include "worker/program.h"

#include <utility>

#include "base/str.h"

namespace thermocline::worker {

using model::OpKind;

// Resolves the ops' operands to slots and views.
class Lowering {
 public:
  Lowering(const model::Graph& graph, const Shard& shard, int first_layer)
      : graph_(graph),
        shard_(shard),
        first_layer_(first_layer),
        table_(model::AssignSlots(graph)) {}

  Result<Program> Run() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      TC_RETURN_IF_ERROR(LowerOp(graph_.ops[i], static_cast<int>(i)));
    }
    program_.slots_ = std::move(table_.slots);
    program_.scratch_cols_ = table_.n_cols;
    program_.output_slot_ = table_.output;
    program_.ffn_begin_ = static_cast<int>(graph_.ffn_begin);
    if (program_.ops_.size() > kMaxOps) {
      return Internal(Str("program with too many ops:", Kv("ops", program_.ops_.size())));
    }
    program_.dag_ = OpDag(accesses_);
    program_.spans_ = CutIntoSpans(accesses_, program_.dag_);
    return std::move(program_);
  }

 private:
  Status LowerOp(const model::Op& op, int index) {
    LoweredOp lowered;
    lowered.kind = op.kind;
    lowered.layer_in_stage = op.layer == model::kNoLayer ? op.layer : op.layer - first_layer_;
    lowered.activation = op.activation;
    lowered.threshold = op.threshold;
    lowered.peer = op.peer;
    lowered.of_heads = op.of_heads;
    lowered.is_answer = op.is_answer;
    lowered.first_col = op.first_col;
    for (const model::ValueId output : op.outputs) {
      const auto kind = graph_.values[static_cast<size_t>(output)].kind;
      lowered.of_sums = lowered.of_sums || kind == model::ValueKind::kSums;
    }
    const bool sends =
        op.kind == OpKind::kSend || op.kind == OpKind::kBroadcast || op.kind == OpKind::kGroupSend;
    if (op.outputs.empty() && !sends) {
      return Internal(Str("op without an output:", Kv("op", index)));
    }
    TC_RETURN_IF_ERROR(ResolveInputs(op, index, &lowered));
    TC_RETURN_IF_ERROR(ResolveWeights(op, &lowered));
    lowered.output = table_.ops[static_cast<size_t>(index)].output;
    program_.ops_.push_back(lowered);
    accesses_.push_back(AccessOf(lowered, op.ends_group));
    return OkStatus();
  }

  Status ResolveInputs(const model::Op& op, int index, LoweredOp* lowered) const {
    size_t n_rows_inputs = 0;
    for (size_t i = 0; i < op.inputs.size(); ++i) {
      const int slot = table_.ops[static_cast<size_t>(index)].inputs[i];
      switch (graph_.values[static_cast<size_t>(op.inputs[i])].kind) {
        case model::ValueKind::kActiveIds:
          lowered->active_ids = slot;
          break;
        case model::ValueKind::kScores:
          lowered->scores = slot;
          break;
        case model::ValueKind::kSums:
          lowered->of_sums = true;
          [[fallthrough]];
        case model::ValueKind::kRows:
          if (n_rows_inputs == lowered->inputs.size()) {
            return Internal(Str("op with too many operands:", Kv("op", index)));
          }
          lowered->inputs[n_rows_inputs++] = slot;
      }
    }
    return OkStatus();
  }

  Status ResolveWeights(const model::Op& op, LoweredOp* lowered) const {
    lowered->neurons.activates_up = op.activates_up;
    if (!op.weights.empty()) lowered->key = op.weights.front();
    for (size_t i = 0; i < op.weights.size(); ++i) {
      const TensorView view = shard_.View(op.weights[i]);
      if (view.empty()) {
        return Internal(Str("weight is not loaded: ", model::WeightRoleName(op.weights[i].role),
                            Kv("layer", op.weights[i].layer)));
      }
      if (op.kind == OpKind::kNeurons) {
        PlaceNeuronWeight(op.weights[i].role, view, &lowered->neurons);
      } else {
        const bool is_bias = i > 0 || op.kind == OpKind::kRope || op.kind == OpKind::kRoundSums;
        (is_bias ? lowered->bias : lowered->weight) = view;
      }
    }
    return OkStatus();
  }

  static void PlaceNeuronWeight(model::WeightRole role, TensorView view,
                                kernels::NeuronWeights* neurons) {
    switch (role) {
      case model::WeightRole::kFfnGate:
        neurons->gate = view;
        break;
      case model::WeightRole::kFfnGateBias:
        neurons->gate_bias = view;
        break;
      case model::WeightRole::kFfnUp:
        neurons->up = view;
        break;
      default:
        neurons->up_bias = view;
    }
  }

  // The places of a program: first what the other members know of the layer, which a send changes
  // and a receive asks for, the same of the group, then the slots. Keys and values at others want
  // the order of those here: their batches are told apart by when x goes out, so that is ordered
  // too, and attention comes after it.
  static OpAccess AccessOf(const LoweredOp& op, bool ends_group) {
    constexpr int kOthers = 0, kGroup = 1, kSlots = 2;
    const bool tells = op.kind == OpKind::kSend || op.kind == OpKind::kBroadcast;
    OpAccess access{.is_ordered =
                        op.kind == OpKind::kAttention || (tells && op.of_heads && !op.is_answer)};
    if (op.kind == OpKind::kAttention) access.reads = {kOthers, kGroup};
    if (op.kind == OpKind::kBroadcast && op.of_heads) access.reads = {kOthers};
    for (const int slot : {op.inputs[0], op.inputs[1], op.inputs[2], op.active_ids, op.scores}) {
      if (slot == kNoSlot) continue;
      access.reads.push_back(slot + kSlots);
      if (op.kind == OpKind::kRope) access.writes.push_back(slot + kSlots);
    }
    if (op.output != kNoSlot) access.writes.push_back(op.output + kSlots);
    if (op.kind == OpKind::kSend) access.writes.push_back(kOthers);
    if (op.kind == OpKind::kReceive) access.reads.push_back(kOthers);
    if (op.kind == OpKind::kBroadcast) {
      access.section = Section::kBegin;
      access.writes.push_back(kGroup);
    } else if (op.kind == OpKind::kGroupSum) {
      access.section = Section::kEnd;
      access.reads.push_back(kGroup);
    } else if (op.kind == OpKind::kGroupSend || op.kind == OpKind::kGroupReceive) {
      if (ends_group || op.kind == OpKind::kGroupSend) access.section = Section::kEnd;
      access.writes.push_back(kGroup);  // in one order
    }
    const bool is_link = op.kind == OpKind::kSend || op.kind == OpKind::kReceive;
    access.unit = is_link ? Unit::kLink : Unit::kDevice;
    return access;
  }

  const model::Graph& graph_;
  const Shard& shard_;
  const int first_layer_;
  model::SlotTable table_;
  std::vector<OpAccess> accesses_;
  Program program_;
};

bool IsOfPredictor(const LoweredOp& op) {
  return model::IsPredictor(op.key.role) || op.kind == model::OpKind::kSelectAtLeast;
}

Result<Program> Program::Lower(const model::Graph& graph, const Shard& shard, int first_layer) {
  return Lowering(graph, shard, first_layer).Run();
}

}  // namespace thermocline::worker
