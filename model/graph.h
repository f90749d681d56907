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
#include "model/ffn_mode.h"
#include "model/sparsity.h"
#include "model/weights.h"

namespace thermocline::model {

// Inputs in the order named here; [] may be absent. Lists of ids and scores are told apart from
// plain rows by their ValueKind, weights by their role.
enum class OpKind : uint8_t {
  kEmbed,          // token ids of the batch -> x          weights: {token_embd}
  kEmbedPosition,  // positions of the batch -> x          weights: {position_embd}
  kNorm,           // x -> y                               weights: {norm, norm_bias?}
  kMatMul,         // x -> x w^T + bias                    weights: {w, bias?}
  kRope,           // q, k -> the same q, k, rotated       weights: {rope_freqs?}
  kAttention,      // q, k, v -> y; appends k, v to the layer's KV pages first
  kAdd,            // a, b -> a + b; the output may be a's storage
  kActivate,       // g, [u] -> act(g) or act(g) * u; the output may be g's or u's storage
  kSelectActive,   // a -> ids of neurons that are not 0 for at least one token
  kSelectAtLeast,  // scores -> ids of neurons whose score reaches the threshold for some token
  kZeroBelow,      // a -> the same a, with 0 where |a| is below the threshold
  // x, ids, act(gate x) or scores -> act(gate x) * (up x) for the ids and the tokens that need
  // them: those whose act(gate x) is not 0, or whose score reaches the threshold. With the former
  // given the gate is not computed again.  weights: {gate?, gate_bias?, up, up_bias?}
  kNeurons,
  kAxpyRows,   // a, [ids] -> sum over ids of a_i * row weights: {w by neuron, bias?}
  kAddSums,    // sums, sums -> the former, with the latter added in place
  kRoundSums,  // sums, [sums] -> both and the bias, rounded once, as plain rows  weights: {bias?}
  kSend,       // x, sums, or y of heads ->; to the other members of the stage that share the layer
  kReceive,    // -> x, sums, or y of heads, from the op's peer
  kBroadcast,  // of the lead: x ->; of another member of the stage's group: -> x
  kGroupSum,   // sums -> the same, the sum of what the group's members have there
  kGroupSend,  // y of a member's heads ->; to the lead of its group
  kGroupReceive,  // -> that, from the op's peer
  // y of some heads, [attn] -> attn of all heads, with that in the heads' columns; the first has no
  // second input, and leaves the other columns to those after it
  kPlaceHeads,
};
const char* OpKindName(OpKind kind);

using ValueId = int;
inline constexpr ValueId kNoValue = -1;

// What flows along an edge.
enum class ValueKind : uint8_t {
  kRows,       // [n_tokens, n_cols] of F32
  kScores,     // the same: a predictor's word on each neuron
  kActiveIds,  // a list of neuron ids for the whole batch; n_cols is their largest number
  kSums,       // [n_tokens, n_cols] of F64: sums of neuron rows to which others are to be added
};

// Of the products of a down projection those of this many neurons, by their places in the layer,
// are added in F32; their sums in F64. A stage whose members hold whole ones of these chunks gives
// the bits of one worker; those of another cut differ by roundings (docs/adr/0021).
inline constexpr int64_t kSumChunk = 64;

struct Value {
  std::string name;  // for traces and messages: "ffn_up-3"
  int64_t n_cols = 0;
  ValueKind kind = ValueKind::kRows;
};

struct Op {
  OpKind kind = OpKind::kNorm;
  int layer = kNoLayer;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::vector<WeightKey> weights;  // in the order the op's comment gives; optional ones last
  Activation activation = Activation::kSilu;  // of kActivate and kNeurons
  bool activates_up = false;                  // of kNeurons: act(gate x) * act(up x)
  float threshold = 0;                        // of kSelectAtLeast, kZeroBelow and kNeurons
  // Of kReceive: among the members that share the layer, the lead being 0; of kGroupReceive: in
  // the group.
  int peer = 0;
  bool of_heads = false;    // of ops between members: of the attention, not of the FFN
  bool is_answer = false;   // of kSend: to the lead
  bool ends_group = false;  // of kGroupReceive: the last of its section
  int64_t first_col = 0;    // of kPlaceHeads
};

// Every value is written by one op, or is the graph's input; only kRope, kZeroBelow, kAddSums,
// kGroupSum and kPlaceHeads write values that another op wrote: their outputs are their inputs,
// changed in place, and ops after them in the list read them changed.
struct Graph {
  std::vector<Value> values;
  std::vector<Op> ops;
  // Ops from here on are the layer's FFN; the ones before are the same in every mode.
  size_t ffn_begin = 0;
  ValueId input = kNoValue;   // x[n_tokens, n_embd], or kNoValue of the embed graph
  ValueId output = kNoValue;  // x[n_tokens, n_embd], or the logits [n_rows, n_vocab]
};

// The first input of `op` of that kind; kNoValue when it has none.
ValueId InputOf(const Graph& graph, const Op& op, ValueKind kind);
// The input of `op` that lists active neurons; kNoValue when it has none, which for kAxpyRows means
// that every neuron is active.
ValueId ActiveIdsOf(const Graph& graph, const Op& op);

// What part of a layer's FFN a graph computes. Shared by several workers, the FFN is a branch on
// each of them: the lead sends them x, each computes its own neurons, and the lead adds what comes
// back in the order of the members. Sums are added as kSums and rounded at the end.
struct FfnShare {
  int64_t n_neurons = -1;  // held here; -1: all
  int n_helpers = 0;       // members beside the lead that hold some and are not in its group
  // Others hold some that are in a group with the lead: x goes out to them as one, and their sums
  // are added to the lead's before those of the helpers.
  bool in_group = false;
  bool is_shared() const { return n_neurons >= 0; }
  // Of the lead: whether sums come from others.
  bool has_others() const { return n_helpers > 0 || in_group; }
};

// What part of a layer's attention a graph computes: some of its KV heads, with the query heads
// that read them. The lead sends x to the others before the norm, each computes the attention of
// its own heads, whose keys and values it holds, and the lead puts what comes back beside its own:
// so who computes which heads changes no bit. attn_output is the lead's.
struct HeadShare {
  HeadRange own;                    // held here; empty: all, and nobody else has any
  std::vector<HeadRange> by_link;   // of the lead: of helpers on links, in the plan's order
  std::vector<HeadRange> by_group;  // of the lead: of the other members of its group, by rank
  bool in_group = false;            // of a helper
  bool is_shared() const { return !own.empty(); }
};

struct FfnOptions {
  FfnMode mode = FfnMode::kDense;
  // The down projection adds rows by neuron (kAxpyRows on kFfnDownT) instead of multiplying by
  // kFfnDown. Implied by every other mode and by a file that has kFfnDownT only. Where the file has
  // kFfnDown only, the graph names kFfnDownT all the same: whoever loads the layer re-lays it into
  // rows.
  bool down_by_neuron = false;
  LayerSparsity sparsity;  // of the layer; read by kPredicted and kThresholded
  FfnShare share;
  HeadShare heads;  // of the attention before it
};

// x += attention(norm(x)); x += ffn(norm(x)) of one layer. `ffn.mode` is one that the layer can run
// (LayerFfnMode). With h = norm(x), gated:
//
// Exact (ReGLU):  g = relu(gate h); ids = active(g); a = g * (up h) for ids.
// Predicted:      s = fc2 act(fc1 x or h); ids = at_least(s); a = act(gate h) * (up h) for ids.
// Thresholded:    g = act(gate h), 0 below the threshold; the rest as exact.
//
// Shared: send(x) and broadcast(x) before h; the sum over the group takes the place of the lead's
// own, the partial sums received are added to it, and the whole is rounded.
Graph BuildLayerGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const FfnOptions& ffn);
// A helper's branch of that FFN: receives x from the lead, sends back the sum over its own neurons,
// ffn.share.n_neurons of them; or does both with its group. No bias of the sum and no residual:
// those are the lead's.
Graph BuildHelperGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                       const FfnOptions& ffn);
// A helper's branch of the attention: receives x from the lead, sends back y of its own heads; or
// does both with its group. The residual and attn_output are the lead's.
Graph BuildHeadsGraph(const ModelConfig& config, const WeightIndex& weights, int layer,
                      const HeadShare& heads);
// Token ids, and positions where they are learned -> x.
Graph BuildEmbedGraph(const ModelConfig& config);
// x -> logits: final norm and output projection (token_embd when tied).
Graph BuildHeadGraph(const ModelConfig& config, const WeightIndex& weights);

// Bytes in the file of the weights that `op` names, all rows; the cost model scales the ops that
// touch only some of them. kFfnDownT counts as kFfnDown where the file has only that.
uint64_t WeightBytes(const Op& op, const WeightIndex& weights);

}  // namespace thermocline::model
