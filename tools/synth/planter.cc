#include "tools/synth/planter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/hash.h"
#include "base/rng.h"
#include "tools/first_error.h"
#include "tools/interrupt.h"
#include "tools/synth/firing_law.h"
#include "tools/synth/planted_layer.h"
#include "tools/synth/planting.h"
#include "tools/synth/synth_tensors.h"

namespace thermocline::tools {
namespace {

// Calibration runs over this many sequences of random tokens. 256 tokens tell a neuron's mean and
// deviation to 6 % of the deviation, which raises the mean density by 0.3 % of itself; sequences
// are long enough that attention averages over many tokens in most rows, as it does in use.
constexpr LayerForward::Batch kCalibration{4, 64};

// What a layer adds to the residual, whose embeddings have deviation 1: enough to matter, little
// enough that the residual keeps its scale over many layers.
constexpr double kAttentionDeviation = 0.2;
constexpr double kFfnDeviation = 0.35;
// Of learned positions, beside embeddings of deviation 1.
constexpr double kPositionDeviation = 0.3;
// Of the logits: likely tokens differ by position, and sampling still finds many.
constexpr double kLogitDeviation = 2.0;
// Tokens that generated text should not have: specials and bytes. Their logit is always 0.
constexpr int64_t kQuietTokens = 259;

std::span<const std::byte> Bytes(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

Planter::Planter(const SynthOptions& options, const Tools& tools)
    : options_(options), tools_(tools) {}

Result<std::unique_ptr<Planter>> Planter::Create(const SynthOptions& options, const Tools& tools) {
  std::unique_ptr<Planter> planter(new Planter(options, tools));
  const FiringLaw law{options.density, options.hot_frac, options.hot_share};
  TC_ASSIGN_OR_RETURN(const std::vector<double> probabilities,
                      FiringProbabilities(law, options.shape.n_ff));
  for (const double p : probabilities) {
    planter->quantiles_.push_back(NormalQuantile(1 - p));
  }
  TC_ASSIGN_OR_RETURN(planter->forward_, LayerForward::Create(options, kCalibration, tools.device));
  const auto n_vocab = static_cast<double>(options.shape.n_vocab);
  for (int64_t t = 0; t < kCalibration.n_tokens(); ++t) {
    const double u = UniformAt(~options.seed, static_cast<uint64_t>(t));
    planter->tokens_.push_back(static_cast<int32_t>(u * n_vocab));
  }
  return planter;
}

Status Planter::WriteModel() {
  TC_RETURN_IF_ERROR(WriteEmbedding());
  for (int64_t i = 0; i < options_.shape.n_layer; ++i) TC_RETURN_IF_ERROR(WriteLayer(i));
  return WriteHead();
}

RandomMatrix Planter::Random(std::string_view tensor, int64_t n_rows, int64_t n_cols,
                             double deviation) {
  RandomMatrix matrix;
  matrix.seed = options_.seed;
  matrix.stream = Checksum64(std::as_bytes(std::span(tensor)));
  matrix.n_rows = n_rows;
  matrix.n_cols = n_cols;
  matrix.deviation = static_cast<float>(deviation);
  return matrix;
}

EncodedMatrix Planter::Encode(const RandomMatrix& matrix) {
  return tools::Encode(matrix, options_.dtype, tools_.pool);
}

// Embeddings begin with the constant; what reads the residual ignores it (but for the deciders),
// what writes to the residual leaves it.
Status Planter::WriteEmbedding() {
  const SynthShape& s = options_.shape;
  RandomMatrix table = Random("token_embd", s.n_vocab, s.n_embd, 1);
  table.first_cols = kConstantDims;
  table.first_value = kConstant;
  const TensorView x = forward_->x();
  std::vector<std::byte> row(RowBytes(options_.dtype, static_cast<uint64_t>(s.n_embd)));
  for (size_t t = 0; t < tokens_.size(); ++t) {
    EncodeRows(table, options_.dtype, tokens_[t], 1, row.data());
    kernels::DequantizeRow(options_.dtype, row.data(), s.n_embd,
                           x.f32_row(static_cast<int64_t>(t)));
  }
  if (options_.is_opt()) TC_RETURN_IF_ERROR(WritePositions());
  return PutStreamed("token_embd.weight", table);
}

Status Planter::WritePositions() {
  const SynthShape& s = options_.shape;
  RandomMatrix table =
      Random("position_embd", s.n_ctx + kPositionOffset, s.n_embd, kPositionDeviation);
  table.first_cols = kConstantDims;
  const int64_t n_rows = std::min(table.n_rows, kCalibration.sequence_tokens + kPositionOffset);
  EncodedMatrix first(options_.dtype, n_rows, s.n_embd);
  EncodeRows(table, options_.dtype, 0, n_rows, first.bytes.data());
  forward_->AddPositions(first.view());
  return PutStreamed("position_embd.weight", table);
}

// OPT's tensors that say nothing here.
Status Planter::PutZeros(const std::string& name, int64_t n) {
  return Put(name, Bytes(std::vector<float>(static_cast<size_t>(n))));
}

Status Planter::WriteBiases(int64_t index) {
  for (const LayerBias& bias : LayerBiases(options_)) {
    TC_RETURN_IF_ERROR(PutZeros(LayerBiasName(index, bias.part), bias.n));
  }
  return OkStatus();
}

Status Planter::WriteHead() {
  const SynthShape& s = options_.shape;
  RandomMatrix head =
      Random("output", s.n_vocab, s.n_embd, kLogitDeviation / std::sqrt(double(s.n_embd)));
  head.first_cols = kConstantDims;
  head.first_rows = std::min(kQuietTokens, s.n_vocab - 1);
  const std::vector<float> ones(static_cast<size_t>(s.n_embd), 1.0f);
  TC_RETURN_IF_ERROR(Put("output_norm.weight", Bytes(ones)));
  if (options_.is_opt()) TC_RETURN_IF_ERROR(PutZeros("output_norm.bias", s.n_embd));
  return PutStreamed("output.weight", head);
}

Status Planter::WriteLayer(int64_t index) {
  Layer layer;
  layer.index = index;
  layer.ones.assign(static_cast<size_t>(options_.shape.n_embd), 1.0f);
  const auto order = Shuffled(options_.shape.n_ff, options_.seed, static_cast<uint64_t>(index) + 1);
  layer.probit.resize(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    layer.probit[static_cast<size_t>(order[i])] = static_cast<float>(quantiles_[i]);
  }
  MakeAttention(&layer);
  TC_RETURN_IF_ERROR(CheckInterrupted());
  forward_->Attend(layer.Views(options_));
  options_.powerinfer ? MakeLowRankDecider(&layer) : MakeDecider(&layer);
  TC_RETURN_IF_ERROR(CheckInterrupted());
  PlantBiases(&layer);
  MakeDown(&layer);
  TC_RETURN_IF_ERROR(CheckInterrupted());
  forward_->AddDown(layer.Views(options_));

  const std::pair<std::string_view, const EncodedMatrix*> matrices[] = {
      {"attn_q", &layer.attn_q},
      {"attn_k", &layer.attn_k},
      {"attn_v", &layer.attn_v},
      {"attn_output", &layer.attn_output},
      {"ffn_gate", options_.gated() ? &layer.decide : nullptr},
      {"ffn_up", options_.gated() ? &layer.up : &layer.decide},
      {options_.powerinfer ? "ffn_down_t" : "ffn_down", &layer.down},
      {"fc1", options_.powerinfer ? &layer.fc1 : nullptr},
      {"fc2", options_.powerinfer ? &layer.fc2 : nullptr}};
  for (const auto& [part, matrix] : matrices) {
    if (matrix != nullptr) TC_RETURN_IF_ERROR(Put(LayerName(index, part), matrix->bytes));
  }
  if (options_.is_opt()) TC_RETURN_IF_ERROR(WriteBiases(index));
  TC_RETURN_IF_ERROR(Put(LayerName(index, "attn_norm"), Bytes(layer.ones)));
  return Put(LayerName(index, "ffn_norm"), Bytes(layer.ones));
}

void Planter::MakeAttention(Layer* layer) {
  const SynthShape& s = options_.shape;
  const double unit = 1 / std::sqrt(static_cast<double>(s.n_embd));
  const auto reader = [&](std::string_view part, int64_t n_rows) {
    RandomMatrix matrix = Random(LayerName(layer->index, part), n_rows, s.n_embd, unit);
    matrix.first_cols = kConstantDims;
    return Encode(matrix);
  };
  layer->attn_q = reader("attn_q", s.n_embd);
  layer->attn_k = reader("attn_k", s.n_embd_kv());
  layer->attn_v = reader("attn_v", s.n_embd_kv());
  RandomMatrix output = Random(LayerName(layer->index, "attn_output"), s.n_embd, s.n_embd,
                               kAttentionDeviation * unit);
  output.first_rows = kConstantDims;
  layer->attn_output = Encode(output);
  if (!options_.gated()) return;
  layer->up = reader("ffn_up", s.n_ff);
}

void Planter::MakeDecider(Layer* layer) {
  const SynthShape& s = options_.shape;
  RandomMatrix matrix = Random(LayerName(layer->index, "decide"), s.n_ff, s.n_embd,
                               1 / std::sqrt(static_cast<double>(s.n_embd)));
  matrix.first_cols = kConstantDims;
  layer->decide = Encode(matrix);
}

void Planter::PlantBiases(Layer* layer) {
  // RMSNorm divides sums and constant alike, so signs are decided before it. LayerNorm takes the
  // row's mean off the constant first; that differs little from row to row.
  const TensorView x = forward_->x();
  const std::vector<float> rms = options_.is_opt() ? Deviations(x) : RootMeanSquares(x);
  std::vector<float> biases =
      BiasesFor(forward_->Decide(layer->Views(options_)), rms, layer->probit);
  const float constant = x.f32_row(0)[0] - (options_.is_opt() ? MeanOf(x) : 0.0f);
  for (float& b : biases) b /= static_cast<float>(kConstantDims) * constant;
  OverwriteColumns(&layer->decide, 0, kConstantDims, biases, tools_.pool);
  if (options_.powerinfer) PlantPredictorBiases(layer);
}

void Planter::MakeDown(Layer* layer) {
  const SynthShape& s = options_.shape;
  const LayerViews views = layer->Views(options_);
  density_.push_back(ShareAboveZero(forward_->Decide(views)));
  const double norm = std::sqrt(MeanSquaredNorm(forward_->Activate(views)));
  const double deviation = norm > 0 ? kFfnDeviation / norm : kFfnDeviation;
  const std::string name = LayerName(layer->index, "ffn_down");
  RandomMatrix down = options_.powerinfer ? Random(name, s.n_ff, s.n_embd, deviation)
                                          : Random(name, s.n_embd, s.n_ff, deviation);
  (options_.powerinfer ? down.first_cols : down.first_rows) = kConstantDims;
  layer->down = Encode(down);
}

Status Planter::Put(const std::string& name, std::span<const std::byte> bytes) {
  TC_ASSIGN_OR_RETURN(const size_t index, tools_.writer.IndexOf(name));
  TC_RETURN_IF_ERROR(tools_.writer.Put(index, 0, bytes));
  tools_.bar.Advance(bytes.size());
  return OkStatus();
}

// Without holding the matrix.
Status Planter::PutStreamed(const std::string& name, const RandomMatrix& matrix) {
  TC_ASSIGN_OR_RETURN(const size_t index, tools_.writer.IndexOf(name));
  const uint64_t row_bytes = RowBytes(options_.dtype, static_cast<uint64_t>(matrix.n_cols));
  const int64_t step = RowsAtATime(matrix.n_cols);
  FirstError first_error;
  tools_.pool.ParallelFor((matrix.n_rows + step - 1) / step, [&](int64_t chunk, int) {
    if (InterruptSignal() != 0) return;
    const int64_t first = chunk * step, n = std::min(step, matrix.n_rows - first);
    std::vector<std::byte> bytes(static_cast<size_t>(n) * row_bytes);
    EncodeRows(matrix, options_.dtype, first, n, bytes.data());
    const Status status = tools_.writer.Put(index, static_cast<uint64_t>(first) * row_bytes, bytes);
    if (!status.ok()) first_error.Report(chunk, status);
    tools_.bar.Advance(bytes.size());
  });
  TC_RETURN_IF_ERROR(CheckInterrupted());
  return first_error.status();
}

}  // namespace thermocline::tools
