#include "placement/op_load.h"

#include <algorithm>

#include "base/check.h"
#include "model/neuron_rows.h"

namespace thermocline::placement {
namespace {

using model::Graph;
using model::Op;
using model::OpKind;
using model::WeightRole;

// A matrix as it lies in a worker's memory.
struct MatrixInfo {
  DType dtype = DType::kF32;
  double n_rows = 0;
  double n_cols = 0;
  double row_bytes() const {
    return static_cast<double>(RowBytes(dtype, static_cast<uint64_t>(n_cols)));
  }
  double row_flops() const { return 2 * n_cols; }  // per token
};

// Loads of the ops of one graph.
class LoadWalk {
 public:
  LoadWalk(const Graph& graph, const model::ModelConfig& config, const model::WeightIndex& weights,
           const StepShape& step)
      : graph_(graph),
        config_(config),
        weights_(weights),
        step_(step),
        n_rows_(static_cast<double>(step.n_rows())) {}

  OpLoad LoadOf(const Op& op) const {
    OpLoad load{.kind = op.kind};
    if (!op.weights.empty()) {
      load.role = op.weights.front().role;
      load.dtype = MatrixOf(op.weights.front()).dtype;
      load.narrow_share = NarrowShareOf(op);
    }
    switch (op.kind) {
      case OpKind::kEmbed:
      case OpKind::kEmbedPosition:
        load.bytes = n_rows_ * MatrixOf(op.weights.front()).row_bytes();
        break;
      case OpKind::kMatMul:
        AddMatMul(op, &load);
        break;
      case OpKind::kAttention:
        AddAttention(&load);
        break;
      case OpKind::kNeurons:
        AddNeurons(op, &load);
        break;
      case OpKind::kAxpyRows:
        // Neurons without an activation are not added, listed or not.
        AddUsedRows(MatrixOf(op.weights.front()), &load);
        break;
      case OpKind::kNorm:
      case OpKind::kRope:
      case OpKind::kAdd:
      case OpKind::kActivate:
      case OpKind::kSelectActive:
      case OpKind::kSelectAtLeast:
      case OpKind::kZeroBelow:
      case OpKind::kAddSums:
      case OpKind::kRoundSums:
      case OpKind::kSend:
      case OpKind::kReceive:
      case OpKind::kBroadcast:
      case OpKind::kGroupSum:
      case OpKind::kGroupSend:
      case OpKind::kGroupReceive:
      case OpKind::kPlaceHeads:
        break;  // what they read lies in the caches
    }
    return load;
  }

 private:
  // Of an op whose weights all are held in 8 bits where rows are; one of several types keeps its
  // time.
  double NarrowShareOf(const Op& op) const {
    double as_is = 0, narrow = 0;
    for (const model::WeightKey& key : op.weights) {
      const model::HeldWeight held = HeldOf(key);
      if (held.n_rows <= 1) continue;  // biases
      const model::HeldWeight narrowed = model::HeldIn(model::NeuronRows::kFp8E4M3, key.role, held);
      if (narrowed.dtype == held.dtype) return 1;
      as_is += static_cast<double>(held.size_bytes());
      narrow += static_cast<double>(narrowed.size_bytes());
    }
    return as_is > 0 ? narrow / as_is : 1;
  }

  void AddMatMul(const Op& op, OpLoad* load) const {
    const model::WeightKey& key = op.weights.front();
    const MatrixInfo matrix = MatrixOf(key);
    const double bytes = matrix.n_rows * matrix.row_bytes();
    const double flops = matrix.n_rows * matrix.row_flops() * n_rows_;
    switch (key.role) {
      case WeightRole::kFfnGate:  // a row per neuron
      case WeightRole::kFfnUp:
      case WeightRole::kPredictorFc2:
      case WeightRole::kFfnDown:  // a column per neuron
        load->bytes_per_neuron = bytes / static_cast<double>(config_.n_ff);
        load->flops_per_neuron = flops / static_cast<double>(config_.n_ff);
        break;
      default:
        load->bytes = bytes;
        load->flops = flops;
    }
  }

  // Token t reads the keys and values of all positions up to its own, and multiplies both.
  void AddAttention(OpLoad* load) const {
    const auto n = static_cast<double>(step_.n_tokens);
    const auto n_sequences = static_cast<double>(step_.n_sequences);
    const auto last = static_cast<double>(step_.n_context + step_.n_tokens);
    const double mean = static_cast<double>(step_.n_context) + (n + 1) / 2;
    load->dtype = step_.kv_dtype;
    load->bytes =
        n_sequences * 2 * last *
        static_cast<double>(RowBytes(step_.kv_dtype, static_cast<uint64_t>(config_.n_embd_kv())));
    load->flops = n_sequences * 4 * n * mean * static_cast<double>(config_.n_embd_q());
  }

  // Gate, where it was not computed before, for every neuron named; up for those that it leaves.
  void AddNeurons(const Op& op, OpLoad* load) const {
    const bool predicted = model::InputOf(graph_, op, model::ValueKind::kScores) != model::kNoValue;
    const bool gated = op.weights.front().role == WeightRole::kFfnGate;
    for (const model::WeightKey& key : op.weights) {
      const MatrixInfo matrix = MatrixOf(key);
      if (key.role == WeightRole::kFfnGate ||
          (key.role == WeightRole::kFfnUp && !gated && predicted)) {
        load->bytes_per_selected += matrix.row_bytes();
        load->flops_per_use += matrix.row_flops();
      } else if (key.role == WeightRole::kFfnUp) {
        AddUsedRows(matrix, load);
      }
    }
  }

  static void AddUsedRows(const MatrixInfo& matrix, OpLoad* load) {
    load->bytes_per_active += matrix.row_bytes();
    load->flops_per_use += matrix.row_flops();
  }

  MatrixInfo MatrixOf(const model::WeightKey& key) const {
    const model::HeldWeight held = HeldOf(key);
    return {held.dtype, static_cast<double>(held.n_rows), static_cast<double>(held.n_cols)};
  }

  // As workers hold it.
  model::HeldWeight HeldOf(const model::WeightKey& key) const {
    const model::TensorInfo* tensor = weights_.Find(key.role, key.layer);
    const bool is_relaid = tensor == nullptr && key.role == WeightRole::kFfnDownT;
    if (is_relaid) tensor = weights_.Find(WeightRole::kFfnDown, key.layer);
    CHECK(tensor != nullptr);
    return model::HeldAs(is_relaid ? WeightRole::kFfnDown : key.role, *tensor, is_relaid);
  }

  const Graph& graph_;
  const model::ModelConfig& config_;
  const model::WeightIndex& weights_;
  const StepShape& step_;
  const double n_rows_;
};

}  // namespace

NeuronShare& NeuronShare::operator+=(const NeuronShare& other) {
  n += other.n;
  selected += other.selected;
  active += other.active;
  uses += other.uses;
  return *this;
}

std::vector<OpLoad> LoadsOf(const Graph& graph, const model::ModelConfig& config,
                            const model::WeightIndex& weights, const StepShape& step) {
  const LoadWalk walk(graph, config, weights, step);
  std::vector<OpLoad> loads;
  loads.reserve(graph.ops.size());
  for (const Op& op : graph.ops) loads.push_back(walk.LoadOf(op));
  return loads;
}

}  // namespace thermocline::placement
