// The operators of a model as data: what the executor lowers and the cost model counts.
//
// A graph is a list of ops in an order that respects their inputs; edges are value numbers, so a
// ready-queue can run independent branches side by side. Dense is the same graph with every neuron
// active.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/weights.h"

namespace thermocline::model {

// How the FFN decides which neurons to compute (DESIGN: four modes; the predicted and thresholded
// ones come with profiles).
enum class FfnMode : uint8_t {
  kDense,  // every neuron
  kExact,  // gate (or up, if ungated) for all, the rest only where the activation is not 0
};
std::string_view FfnModeName(FfnMode mode);
// The inverse; kInvalidArgument lists the modes.
Result<FfnMode> ParseFfnMode(std::string_view name);

// Inputs in the order named here; [] may be absent.
enum class OpKind : uint8_t {
  kEmbed,         // token ids of the batch -> x          weights: {token_embd}
  kNorm,          // x -> y                               weights: {norm, norm_bias?}
  kMatMul,        // x -> x w^T + bias                    weights: {w, bias?}
  kRope,          // q, k -> the same q, k, rotated       weights: {rope_freqs?}
  kAttention,     // q, k, v -> y; appends k, v to the layer's KV pages first
  kAdd,           // a, b -> a + b; the output may be a's storage
  kActivate,      // g, [u] -> act(g) or act(g) * u; the output may be g's or u's storage
  kSelectActive,  // a -> ids of neurons that are not 0 for at least one token
  kNeurons,       // x, ids, act(gate x) -> act(gate x) * (up x) for ids   weights: {up, bias?}
  kAxpyRows,      // a, [ids] -> sum over ids of a_i * row weights: {w by neuron, bias?}
};
const char* OpKindName(OpKind kind);

using ValueId = int;
inline constexpr ValueId kNoValue = -1;

// What flows along an edge: [n_tokens, n_cols] of F32, or a list of active neuron ids (n_cols is
// then their largest number).
struct Value {
  std::string name;  // for traces and messages: "ffn_up-3"
  int64_t n_cols = 0;
  bool is_active_ids = false;
};

struct Op {
  OpKind kind = OpKind::kNorm;
  int layer = kNoLayer;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<WeightKey> weights;  // in the order the op's comment gives; optional ones last
};

// Every value is written by one op, or is the graph's input; only kRope writes values that another
// op wrote: its outputs are its inputs, rotated in place, and ops after it in the list read them
// rotated.
struct Graph {
  std::vector<Value> values;
  std::vector<Op> ops;
  ValueId input = kNoValue;   // x[n_tokens, n_embd], or kNoValue when the graph starts with kEmbed
  ValueId output = kNoValue;  // x[n_tokens, n_embd], or the logits [n_rows, n_vocab]
};

// The input of `op` that lists active neurons; kNoValue when it has none, which for kAxpyRows means
// that every neuron is active.
ValueId ActiveIdsOf(const Graph& graph, const Op& op);

struct FfnOptions {
  FfnMode mode = FfnMode::kDense;
  // The down projection adds rows by neuron (kAxpyRows on kFfnDownT) instead of multiplying by
  // kFfnDown. Implied by kExact and by a file that has kFfnDownT only. Where the file has kFfnDown
  // only, the graph names kFfnDownT all the same: whoever loads the layer re-lays it into rows.
  bool down_by_neuron = false;
};

// kInvalidArgument when the model's activation gives no exact zeros and the mode needs them.
Status CheckFfnMode(const ModelConfig& config, FfnMode mode);

// x += attention(norm(x)); x += ffn(norm(x)) of one layer. `ffn.mode` has passed CheckFfnMode.
//
// Exact, gated (ReGLU): g = relu(gate x); ids = active(g); a = g * (up x) for ids.
Graph BuildLayerGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const FfnOptions& ffn);
// Token ids -> x.
Graph BuildEmbedGraph(const ModelConfig& config);
// x -> logits: final norm and output projection (token_embd when tied).
Graph BuildHeadGraph(const ModelConfig& config, const WeightIndex& weights);

// Bytes in the file of the weights that `op` names, all rows; the cost model scales the ops that
// touch only some of them. kFfnDownT counts as kFfnDown where the file has only that.
uint64_t WeightBytes(const Op& op, const WeightIndex& weights);

}  // namespace thermocline::model
