// The operators of a model as data: what the executor lowers and the cost model counts.
//
// A graph is a list of ops in an order that respects their inputs; edges are value numbers, so a
// ready-queue can run independent branches side by side. Dense is the same graph with every neuron
// active.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/weights.h"

namespace thermocline::model {

// How the FFN decides which neurons to compute (DESIGN: four modes; the predicted and thresholded
// ones come with profiles).
enum class FfnMode : uint8_t {
  kDense,  // every neuron
  kExact,  // gate (or up, if ungated) for all, the rest only where the activation is not 0
};

enum class OpKind : uint8_t {
  kEmbed,         // token ids -> x                       weights: {token_embd}
  kNorm,          // x -> y                               weights: {norm, norm_bias?}
  kMatMul,        // x -> x w^T + bias                    weights: {w, bias?}
  kRope,          // rotates q and k in place             weights: {rope_freqs?}
  kAttention,     // q, k, v -> y; appends k, v to the layer's KV pages first
  kAdd,           // a, b -> a + b; the output may be a's storage
  kActivate,      // act(g) or act(g) * u
  kSelectActive,  // activations -> ids of neurons that are not 0 for at least one token
  kMatMulRows,    // x, ids -> only the rows named by ids weights: {w, bias?}
  kAxpyRows,      // a, ids -> sum over ids of a_i * row  weights: {w by neuron, bias?}
};

using ValueId = int;
inline constexpr ValueId kNoValue = -1;

// What flows along an edge: [n_tokens, n_cols] of F32, or a list of active neuron ids.
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

struct Graph {
  std::vector<Value> values;
  std::vector<Op> ops;
  ValueId input = kNoValue;   // x[n_tokens, n_embd], or kNoValue when the graph starts with kEmbed
  ValueId output = kNoValue;  // x[n_tokens, n_embd], or the logits [n_rows, n_vocab]
};

// x += attention(norm(x)); x += ffn(norm(x)) of one layer.
Graph BuildLayerGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      FfnMode ffn);
// Token ids -> x.
Graph BuildEmbedGraph(const ModelConfig& config);
// x -> logits: final norm and output projection (token_embd when tied).
Graph BuildHeadGraph(const ModelConfig& config, const WeightIndex& weights);

}  // namespace thermocline::model
