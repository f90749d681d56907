#include "placement/overhead.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/ffn_policy.h"
#include "model/slot_table.h"

namespace thermocline::placement {
namespace {

using model::FfnMode;
using model::FfnShare;
using model::Graph;
using model::OpKind;
using model::WeightRole;

// Activations that meet weights of 8 bits and fewer are rounded to bytes first: 512 of them take
// 704 bytes with their scales (kernels/cpu/byte_rows.h).
constexpr int64_t kRoundedElems = 512, kRoundedBytes = 704;
// Added rows want the factors of 128 tokens neuron by neuron, F32 (kernels/cpu/axpy-inl.h).
constexpr int64_t kAxpyTokens = 128;
// Two ids per neuron: those that remain, of Neurons and of AxpyRows.
constexpr int64_t kIdBytes = 2 * sizeof(int32_t);
// Per neuron and layer: its place, and how often it fired.
constexpr int64_t kTableBytes = 2 * sizeof(int32_t);
// A frame that comes lies once in the transport's buffer and once as a frame, one that goes once in
// the transport's buffer; from and to a narrower type than F32 activations are copied once more.
constexpr uint64_t BytesIn(uint64_t wire) { return 2 * wire + (wire < 4 ? 4 : 0); }
constexpr uint64_t BytesOut(uint64_t wire) { return wire + (wire < 4 ? wire : 0); }
// So all wire types need the same, and whatever a plan says of its links, this counts.
static_assert(BytesIn(2) == BytesIn(4) && BytesOut(2) == BytesOut(4));
// Sums are F64 where activations are F32, and then need the most.
constexpr uint64_t kSumBytesIn = 2 * sizeof(double), kSumBytesOut = sizeof(double);

// What the weights allow the layer to run; thresholds do not change what an op needs.
model::LayerSparsity SparsityIn(const model::WeightIndex& weights, int layer) {
  model::LayerSparsity sparsity{.activation_threshold = 0};
  const model::TensorInfo* fc1 = weights.Find(WeightRole::kPredictorFc1, layer);
  if (fc1 == nullptr) return sparsity;
  sparsity.predictor = model::PredictorKind::kRelu;
  sparsity.n_hidden = static_cast<int>(fc1->n_rows());
  return sparsity;
}

// Columns of the slots that hold a row per token, and those of lists, which serve all tokens.
struct SlotCols {
  int64_t of_rows = 0;
  int64_t of_lists = 0;
};

SlotCols ColsOf(const Graph& graph) {
  const model::SlotTable table = model::AssignSlots(graph);
  std::vector<bool> has_rows(table.slots.size(), false);
  if (graph.input != model::kNoValue) has_rows[0] = true;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    if (graph.ops[i].outputs.empty()) continue;
    const model::Value& value = graph.values[static_cast<size_t>(graph.ops[i].outputs[0])];
    if (value.kind == model::ValueKind::kActiveIds) continue;
    has_rows[static_cast<size_t>(table.ops[i].output)] = true;
  }
  SlotCols cols;
  for (size_t slot = 0; slot < table.slots.size(); ++slot) {
    (has_rows[slot] ? cols.of_rows : cols.of_lists) += table.slots[slot].n_cols;
  }
  return cols;
}

// Whoever is in a group needs no more than over links.
model::HeadShare HeadsAsLead(const StagePlan& stage) {
  model::HeadShare heads{.own = stage.heads};
  for (const HelperPlan& helper : stage.helpers) {
    if (!helper.heads.empty()) heads.by_link.push_back(helper.heads);
  }
  return heads;
}

int HelpersOf(const StagePlan& stage, size_t layer) {
  return static_cast<int>(
      std::count_if(stage.helpers.begin(), stage.helpers.end(),
                    [&](const HelperPlan& helper) { return !helper.neurons[layer].empty(); }));
}

}  // namespace

void OverheadModel::Scratch::Widen(const Scratch& other) {
  row_bytes = std::max(row_bytes, other.row_bytes);
  bytes = std::max(bytes, other.bytes);
  n_cols = std::max(n_cols, other.n_cols);
}

OverheadModel::OverheadModel(const model::ModelConfig& config, const model::WeightIndex& weights,
                             model::FfnModes ffn, int max_step_tokens, int64_t most_pages)
    : config_(config),
      weights_(weights),
      ffn_(ffn),
      // A stage's scratch never has fewer rows than a block of logits.
      n_rows_(static_cast<uint64_t>(std::max(max_step_tokens, kLogitsBlockRows))),
      most_pages_(static_cast<uint64_t>(most_pages)) {
  embed_ = ScratchOf(model::BuildEmbedGraph(config_));
  head_ = ScratchOf(model::BuildHeadGraph(config_, weights_));
  for (int layer = 0; layer < config_.n_layer; ++layer) {
    alone_.Widen(ScratchOfLayer(layer, Role::kLead, {}));
    // Values as wide as others share their slots with them: of three widths one is nobody else's,
    // be it that of neurons or of their list.
    for (int64_t n = config_.n_ff; n >= std::max<int64_t>(config_.n_ff - 2, 1); --n) {
      shared_.Widen(ScratchOfLayer(layer, Role::kLead, {n, 1}));
      helper_.Widen(ScratchOfLayer(layer, Role::kHelper, {n, 0}));
    }
  }
  CountWeights();
}

OverheadModel::Scratch OverheadModel::ScratchOf(const Graph& graph) const {
  const SlotCols cols = ColsOf(graph);
  int64_t rounded = 0, added = 0;
  for (const model::Op& op : graph.ops) {
    if (op.inputs.empty() || op.inputs[0] == model::kNoValue || op.weights.empty()) continue;
    const int64_t n_in = graph.values[static_cast<size_t>(op.inputs[0])].n_cols;
    const model::WeightKey& key = op.weights.front();
    const model::TensorInfo* tensor = weights_.Find(key.role, key.layer);
    if (op.kind == OpKind::kAxpyRows) {
      added = std::max(added, n_in);
    } else if ((op.kind == OpKind::kMatMul || op.kind == OpKind::kNeurons) && tensor != nullptr &&
               !IsFloat(model::HeldAs(key.role, *tensor, false).dtype)) {
      rounded = std::max(rounded, n_in);
    }
  }
  const int64_t n_blocks = (rounded + kRoundedElems - 1) / kRoundedElems;
  return {cols.of_rows * int64_t{sizeof(float)} + n_blocks * kRoundedBytes,
          cols.of_lists * int64_t{sizeof(int32_t)} +
              added * (kAxpyTokens * int64_t{sizeof(float)} + kIdBytes),
          cols.of_rows + cols.of_lists};
}

OverheadModel::Scratch OverheadModel::ScratchOfLayer(int layer, Role role, const FfnShare& share,
                                                     const model::HeadShare& heads) const {
  const model::LayerSparsity sparsity = SparsityIn(weights_, layer);
  Scratch widest;
  for (const FfnMode mode : model::kFfnModes) {
    if (!ffn_.Has(mode)) continue;
    if (mode == FfnMode::kExact && !config_.relu_family()) continue;
    const model::FfnOptions options{model::LayerFfnMode(config_, sparsity, mode),
                                    ffn_.needs_neuron_rows(), sparsity, share, heads};
    widest.Widen(ScratchOf(role == Role::kHelper
                               ? model::BuildHelperGraph(config_, weights_, layer, options)
                               : model::BuildLayerGraph(config_, weights_, layer, options)));
  }
  return widest;
}

uint64_t OverheadModel::OfFrames(const Frames& frames) const {
  const auto times = [](int n, uint64_t n_bytes) { return static_cast<uint64_t>(n) * n_bytes; };
  return (times(frames.in, BytesIn(sizeof(float))) + times(frames.out, BytesOut(sizeof(float))) +
          times(frames.sums_in, kSumBytesIn) + times(frames.sums_out, kSumBytesOut)) *
         n_rows_ * static_cast<uint64_t>(config_.n_embd);
}

uint64_t OverheadModel::OfHeadFrames(const HeadRange& heads) const {
  const int64_t n_cols = config_.n_embd_q() / std::max(1, config_.n_head_kv) * heads.size();
  const uint64_t n_bytes = n_rows_ * static_cast<uint64_t>(n_cols);
  const uint64_t as_sums = n_rows_ * static_cast<uint64_t>(config_.n_embd) * kSumBytesIn;
  const uint64_t taken = n_bytes * BytesIn(sizeof(float));
  return taken - std::min(taken, as_sums);
}

uint64_t OverheadModel::OfTables(int n_layers) const {
  return static_cast<uint64_t>(n_layers * kTableBytes) * static_cast<uint64_t>(config_.n_ff);
}

uint64_t OverheadModel::Sum(const Scratch& scratch, const model::LayerRange& layers,
                            int n_helpers) const {
  Scratch widest = scratch;
  if (layers.has_embed) widest.Widen(embed_);
  uint64_t sum = kRuntimeBytes + n_rows_ * static_cast<uint64_t>(widest.row_bytes) +
                 static_cast<uint64_t>(widest.bytes) + OfTables(layers.end - layers.begin) +
                 OfFrames({.in = layers.has_embed ? 0 : 1,
                           .out = n_helpers + (layers.has_head ? 0 : 1),
                           .sums_in = n_helpers});
  if (!layers.has_head) return sum;
  // The sampler looks at one row: a logit, a token id and a double of weight for each token.
  constexpr uint64_t kSampleBytes = 16;
  return sum + kLogitsBlockRows * static_cast<uint64_t>(head_.row_bytes) +
         kSampleBytes * static_cast<uint64_t>(config_.n_vocab);
}

uint64_t OverheadModel::SumOfHelper(const Scratch& scratch, int n_layers) const {
  return kRuntimeBytes + n_rows_ * static_cast<uint64_t>(scratch.row_bytes) +
         static_cast<uint64_t>(scratch.bytes) + OfFrames({.in = 1, .sums_out = 1}) +
         OfTables(n_layers);
}

uint64_t OverheadModel::OfLead(const StagePlan& stage, Holder holder) const {
  Scratch scratch;
  const model::LayerRange& layers = stage.layers;
  const model::HeadShare heads = HeadsAsLead(stage);
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    const auto at = static_cast<size_t>(layer - layers.begin);
    FfnShare share;
    if (stage.is_split()) share = {stage.neurons[at].size(), HelpersOf(stage, at)};
    scratch.Widen(ScratchOfLayer(layer, Role::kLead, share, heads));
  }
  if (holder == Holder::kCard) return SumOfCard(scratch, layers);
  uint64_t sum = Sum(scratch, layers, static_cast<int>(stage.helpers.size()));
  for (const HeadRange& range : heads.by_link) sum += OfHeadFrames(range);
  return sum;
}

uint64_t OverheadModel::OfHelper(const StagePlan& stage, const HelperPlan& helper,
                                 Holder holder) const {
  Scratch scratch;
  for (int layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
    const NeuronRange& own = helper.neurons[static_cast<size_t>(layer - stage.layers.begin)];
    if (!helper.heads.empty()) {
      scratch.Widen(
          ScratchOf(model::BuildHeadsGraph(config_, weights_, layer, {.own = helper.heads})));
    }
    if (own.empty()) continue;
    scratch.Widen(ScratchOfLayer(layer, Role::kHelper, {own.size(), 0}));
  }
  const model::LayerRange layers = {stage.layers.begin, stage.layers.end, false, false};
  if (holder == Holder::kCard) return SumOfCard(scratch, layers);
  return SumOfHelper(scratch, layers.end - layers.begin) + OfHeadFrames(helper.heads);
}

uint64_t OverheadModel::MostOfLead(const model::LayerRange& layers, int n_helpers,
                                   Holder holder) const {
  const bool has_card = holder == Holder::kCard;
  if (n_helpers == 0) return has_card ? SumOfCard(alone_, layers) : Sum(alone_, layers, 0);
  Scratch scratch = shared_;
  // Each further sum that is received takes a slot of n_embd at most.
  const int64_t more_bytes = (n_helpers - 1) * int64_t{config_.n_embd} * int64_t{sizeof(double)};
  scratch.row_bytes += more_bytes;
  scratch.n_cols += more_bytes / int64_t{sizeof(float)};
  return has_card ? SumOfCard(scratch, layers) : Sum(scratch, layers, n_helpers);
}

uint64_t OverheadModel::MostOfHelper(int n_layers, Holder holder) const {
  return holder == Holder::kCard ? SumOfCard(helper_, {0, n_layers, false, false})
                                 : SumOfHelper(helper_, n_layers);
}

uint64_t ActivationBytes(DType wire, int64_t n_rows, int64_t n_embd) {
  return RowBytes(wire, static_cast<uint64_t>(n_embd)) * static_cast<uint64_t>(n_rows);
}

uint64_t SumsBytes(DType wire, int64_t n_rows, int64_t n_embd) {
  const uint64_t n_bytes = ActivationBytes(wire, n_rows, n_embd);
  return wire == DType::kF32 ? n_bytes * (sizeof(double) / sizeof(float)) : n_bytes;
}

uint64_t KvPageBytes(const model::ModelConfig& config, const KvBudget& kv) {
  return 2 * uint64_t(kv.page_tokens) * RowBytes(kv.dtype, uint64_t(config.n_embd_kv()));
}

uint64_t KvBytes(const model::ModelConfig& config, const KvBudget& kv,
                 const model::LayerRange& layers, const HeadRange& heads) {
  const auto n_layers = static_cast<uint64_t>(std::max(0, layers.end - layers.begin));
  const uint64_t head_bytes = 2 * uint64_t(kv.page_tokens) * RowBytes(kv.dtype, config.head_dim);
  return head_bytes * uint64_t(heads.size()) * uint64_t(kv.n_pages) * n_layers;
}

std::string HeadsText(const HeadRange& heads) {
  if (heads.empty()) return "";
  if (heads.size() == 1) return Str(" with KV head ", heads.begin);
  return Str(" with KV heads ", heads.begin, "-", heads.end - 1);
}

HeadRange HeadsOf(const StagePlan& stage, const model::ModelConfig& config) {
  return stage.shares_heads() ? stage.heads : HeadRange{0, config.n_head_kv};
}

}  // namespace thermocline::placement
