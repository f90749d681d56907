// A graph lowered to calls: weights resolved to views, values to places in one scratch region.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/ops.h"
#include "model/config.h"
#include "model/graph.h"
#include "model/slot_table.h"
#include "worker/op_dag.h"
#include "worker/op_spans.h"
#include "worker/shard.h"

namespace thermocline::worker {

using model::kNoSlot;
using model::Slot;

struct LoweredOp {
  model::OpKind kind = model::OpKind::kNorm;
  int layer_in_stage = model::kNoLayer;  // kNoLayer: of the embedding or the head
  model::WeightKey key;  // of the first weight; the default for an op without weights
  // Slots. `inputs` are those of plain rows or sums, in the order of the op's comment in
  // model/graph.h.
  std::array<int, 3> inputs = {kNoSlot, kNoSlot, kNoSlot};
  int active_ids = kNoSlot;
  int scores = kNoSlot;
  int output = kNoSlot;
  TensorView weight;
  TensorView bias;                 // or rope_freqs for kRope
  kernels::NeuronWeights neurons;  // of kNeurons, which has no `weight`
  model::Activation activation = model::Activation::kSilu;
  float threshold = 0;
  int peer = 0;            // of kReceive and kGroupReceive
  bool of_heads = false;   // of ops between members
  bool is_answer = false;  // of kSend
  int64_t first_col = 0;   // of kPlaceHeads
  // Its operands, of kAxpyRows and kReceive the output, are sums (model::ValueKind::kSums).
  bool of_sums = false;
};

// Whether the op scores or chooses neurons instead of computing them.
bool IsOfPredictor(const LoweredOp& op);

// The calls of one graph. Immutable; its input and output share slot 0.
class Program {
 public:
  // `first_layer` is the stage's first layer. kInternal when a graph does not fit these rules: it
  // would be a bug of the graph builder, reported rather than run.
  static Result<Program> Lower(const model::Graph& graph, const Shard& shard, int first_layer);

  const std::vector<LoweredOp>& ops() const { return ops_; }
  const std::vector<Slot>& slots() const { return slots_; }
  int output_slot() const { return output_slot_; }
  // What each op waits for.
  const OpDag& dag() const { return dag_; }
  // The ops by what can be given to a device as one.
  const OpSpans& spans() const { return spans_; }
  // Of a layer: the ops from here on differ between FFN modes.
  int ffn_begin() const { return ffn_begin_; }
  // Width of the scratch region: it takes this many floats per token.
  int64_t scratch_cols() const { return scratch_cols_; }

 private:
  friend class Lowering;
  std::vector<LoweredOp> ops_;
  std::vector<Slot> slots_;
  OpDag dag_;
  OpSpans spans_;
  int output_slot_ = 0;
  int ffn_begin_ = 0;
  int64_t scratch_cols_ = 0;
};

}  // namespace thermocline::worker
