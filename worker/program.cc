#include "worker/program.h"

#include <algorithm>

#include "base/str.h"

namespace thermocline::worker {

using model::kNoValue;
using model::OpKind;
using model::ValueId;

namespace {

// Slots begin at cache lines of 64 bytes, whatever number of rows a batch has.
constexpr int64_t kSlotAlignCols = 16;

}  // namespace

// Assigns slots by walking the ops in order, freeing each value's slot after its last reader.
class Lowering {
 public:
  Lowering(const model::Graph& graph, const Shard& shard, int first_layer)
      : graph_(graph),
        shard_(shard),
        first_layer_(first_layer),
        slot_of_(graph.values.size(), kNoSlot),
        last_reader_(graph.values.size(), -1) {}

  Result<Program> Run() {
    FindLastReaders();
    if (graph_.input != kNoValue) Assign(graph_.input);
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      TC_RETURN_IF_ERROR(LowerOp(graph_.ops[i], static_cast<int>(i)));
    }
    program_.output_slot_ = SlotOf(graph_.output);
    program_.ffn_begin_ = static_cast<int>(graph_.ffn_begin);
    if (program_.ops_.size() > kMaxOps) {
      return Internal(Str("program with too many ops:", Kv("ops", program_.ops_.size())));
    }
    program_.dag_ = OpDag(accesses_);
    return std::move(program_);
  }

 private:
  void FindLastReaders() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      for (const ValueId input : graph_.ops[i].inputs) {
        if (input != kNoValue) last_reader_[static_cast<size_t>(input)] = static_cast<int>(i);
      }
    }
    last_reader_[static_cast<size_t>(graph_.output)] = static_cast<int>(graph_.ops.size());
  }

  Status LowerOp(const model::Op& op, int index) {
    LoweredOp lowered;
    lowered.kind = op.kind;
    lowered.layer_in_stage = op.layer == model::kNoLayer ? op.layer : op.layer - first_layer_;
    lowered.activation = op.activation;
    lowered.threshold = op.threshold;
    lowered.peer = op.peer;
    if (op.outputs.empty() && op.kind != OpKind::kSend) {
      return Internal(Str("op without an output:", Kv("op", index)));
    }
    TC_RETURN_IF_ERROR(ResolveInputs(op, index, &lowered));
    TC_RETURN_IF_ERROR(ResolveWeights(op, &lowered));
    lowered.output = PlaceOutput(op, index);
    program_.ops_.push_back(lowered);
    accesses_.push_back(AccessOf(lowered));
    for (const ValueId input : op.inputs) {
      if (input != kNoValue && last_reader_[static_cast<size_t>(input)] == index) Free(input);
    }
    return OkStatus();
  }

  Status ResolveInputs(const model::Op& op, int index, LoweredOp* lowered) const {
    size_t n_rows_inputs = 0;
    for (const ValueId input : op.inputs) {
      switch (graph_.values[static_cast<size_t>(input)].kind) {
        case model::ValueKind::kActiveIds:
          lowered->active_ids = SlotOf(input);
          break;
        case model::ValueKind::kScores:
          lowered->scores = SlotOf(input);
          break;
        case model::ValueKind::kRows:
          if (n_rows_inputs == lowered->inputs.size()) {
            return Internal(Str("op with too many operands:", Kv("op", index)));
          }
          lowered->inputs[n_rows_inputs++] = SlotOf(input);
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
        (i == 0 && op.kind != OpKind::kRope ? lowered->weight : lowered->bias) = view;
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

  // Ops that work in place name their input as their output; a residual add takes over the storage
  // of its first input, so that x stays where it is through all layers.
  int PlaceOutput(const model::Op& op, int index) {
    if (op.outputs.empty()) return kNoSlot;
    const ValueId output = op.outputs[0];
    if (SlotOf(output) != kNoSlot) return SlotOf(output);
    const ValueId first = op.inputs.empty() ? kNoValue : op.inputs[0];
    if (op.kind == OpKind::kAdd && last_reader_[static_cast<size_t>(first)] == index) {
      slot_of_[static_cast<size_t>(output)] = SlotOf(first);
      slot_of_[static_cast<size_t>(first)] = kNoSlot;
      return SlotOf(output);
    }
    return Assign(output, op.kind == OpKind::kReceive);
  }

  // The places of a program: first what the other members know of the layer, which a send changes
  // and a receive asks for, then the slots.
  static OpAccess AccessOf(const LoweredOp& op) {
    constexpr int kOthers = 0;
    OpAccess access{.is_ordered = op.kind == OpKind::kAttention};
    for (const int slot : {op.inputs[0], op.inputs[1], op.inputs[2], op.active_ids, op.scores}) {
      if (slot == kNoSlot) continue;
      access.reads.push_back(slot + 1);
      if (op.kind == OpKind::kRope) access.writes.push_back(slot + 1);
    }
    if (op.output != kNoSlot) access.writes.push_back(op.output + 1);
    if (op.kind == OpKind::kSend) access.writes.push_back(kOthers);
    if (op.kind == OpKind::kReceive) access.reads.push_back(kOthers);
    const bool is_link = op.kind == OpKind::kSend || op.kind == OpKind::kReceive;
    access.unit = is_link ? Unit::kLink : Unit::kDevice;
    return access;
  }

  int SlotOf(ValueId value) const {
    return value == kNoValue ? kNoSlot : slot_of_[static_cast<size_t>(value)];
  }

  int Assign(ValueId value, bool waits_least = false) {
    const model::Value& described = graph_.values[static_cast<size_t>(value)];
    // A list of neuron ids is preceded by its length; one list serves all tokens.
    const bool is_list = described.kind == model::ValueKind::kActiveIds;
    const int64_t n_cols = described.n_cols + (is_list ? 1 : 0);
    int slot = TakeFree(n_cols, waits_least);
    if (slot == kNoSlot) {
      slot = static_cast<int>(program_.slots_.size());
      program_.slots_.push_back({program_.scratch_cols_, n_cols});
      program_.scratch_cols_ += (n_cols + kSlotAlignCols - 1) / kSlotAlignCols * kSlotAlignCols;
    }
    slot_of_[static_cast<size_t>(value)] = slot;
    return slot;
  }

  // The slot freed last is likeliest in a cache; whoever writes the one freed first waits least for
  // its last readers. kNoSlot when none has this width.
  int TakeFree(int64_t n_cols, bool freed_first) {
    auto found = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (program_.slots_[static_cast<size_t>(*it)].n_cols != n_cols) continue;
      found = it;
      if (freed_first) break;
    }
    if (found == free_.end()) return kNoSlot;
    const int slot = *found;
    free_.erase(found);
    return slot;
  }

  void Free(ValueId value) {
    int& slot = slot_of_[static_cast<size_t>(value)];
    if (slot == kNoSlot) return;  // its storage was taken over
    free_.push_back(slot);
    slot = kNoSlot;
  }

  const model::Graph& graph_;
  const Shard& shard_;
  const int first_layer_;
  std::vector<int> slot_of_;      // by value
  std::vector<int> last_reader_;  // by value: index of the last op that reads it
  std::vector<int> free_;         // slots, in the order in which they became free
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
