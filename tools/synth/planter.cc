#include "tools/synth/planter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/hash.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/units.h"
#include "kernels/quantize.h"
#include "tools/first_error.h"
#include "tools/synth/firing_law.h"

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
// Of the logits: likely tokens differ by position, and sampling still finds many.
constexpr double kLogitDeviation = 2.0;
// Tokens that generated text should not have: specials and bytes. Their logit is always 0.
constexpr int64_t kQuietTokens = 259;

// Hidden units of the predictor that carry the bias; a whole group, as kConstantDims.
constexpr int64_t kBiasUnits = 32;

std::string LayerName(int64_t layer, std::string_view part) {
  return Str("blk.", layer, ".", part, ".weight");
}

std::span<const std::byte> Bytes(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

// The order in which a layer's neurons take the descending probabilities (Fisher and Yates 1938).
std::vector<int32_t> Shuffled(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    const double u = UniformAt(seed ^ (stream * 0x9E3779B97F4A7C15u), static_cast<uint64_t>(i));
    std::swap(order[static_cast<size_t>(i)],
              order[static_cast<size_t>(u * static_cast<double>(i + 1))]);
  }
  return order;
}

// Root mean square with epsilon of each row: what RMSNorm divides by.
std::vector<float> RootMeanSquares(TensorView x) {
  std::vector<float> rms;
  for (int64_t t = 0; t < x.n_rows; ++t) {
    const float* row = x.f32_row(t);
    double sum = 0;
    for (int64_t i = 0; i < x.n_cols; ++i) sum += double{row[i]} * row[i];
    rms.push_back(static_cast<float>(std::sqrt(sum / static_cast<double>(x.n_cols) + kNormEps)));
  }
  return rms;
}

double ShareAboveZero(TensorView z) {
  int64_t n = 0;
  for (int64_t t = 0; t < z.n_rows; ++t) {
    n += std::count_if(z.f32_row(t), z.f32_row(t) + z.n_cols, [](float v) { return v > 0; });
  }
  return static_cast<double>(n) / static_cast<double>(z.n_rows * z.n_cols);
}

// Mean over rows of the sum of squares.
double MeanSquaredNorm(TensorView a) {
  double sum = 0;
  for (int64_t t = 0; t < a.n_rows; ++t) {
    const float* row = a.f32_row(t);
    for (int64_t i = 0; i < a.n_cols; ++i) sum += double{row[i]} * row[i];
  }
  return sum / static_cast<double>(a.n_rows);
}

// Gives the elements [first, first + n) of each row i the value values[i]. Whole blocks are encoded
// again, from what they decode to.
void OverwriteColumns(EncodedMatrix* matrix, int64_t first, int64_t n,
                      std::span<const float> values, ThreadPool& pool) {
  const auto block = static_cast<int64_t>(Traits(matrix->dtype).block_elems);
  const int64_t begin = first / block * block;
  const int64_t n_touched = static_cast<int64_t>(RoundUp(static_cast<uint64_t>(first + n),
                                                         static_cast<uint64_t>(block))) -
                            begin;
  const TensorView part = matrix->view().Cols(begin, n_touched);
  pool.ParallelFor(matrix->n_rows, [&](int64_t i, int) {
    std::vector<float> row(static_cast<size_t>(n_touched));
    kernels::DequantizeRow(matrix->dtype, part.row(i), n_touched, row.data());
    std::fill_n(row.begin() + (first - begin), n, values[static_cast<size_t>(i)]);
    kernels::QuantizeRow(matrix->dtype, row, part.row(i));
  });
}

// The bias that makes each neuron's value positive with its probability: value[t, i] is what it has
// without, values are multiplied by scale[t] first, and probit[i] is NormalQuantile(1 - p).
std::vector<float> BiasesFor(TensorView values, std::span<const float> scale,
                             std::span<const float> probit) {
  const auto n = static_cast<double>(values.n_rows);
  std::vector<double> sum(static_cast<size_t>(values.n_cols)), squares(sum.size());
  for (int64_t t = 0; t < values.n_rows; ++t) {
    const float* row = values.f32_row(t);
    for (size_t i = 0; i < sum.size(); ++i) {
      const double v = double{row[i]} * scale[static_cast<size_t>(t)];
      sum[i] += v;
      squares[i] += v * v;
    }
  }
  std::vector<float> biases(sum.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    const double mean = sum[i] / n;
    const double deviation = std::sqrt(std::max(0.0, squares[i] / n - mean * mean));
    biases[i] = static_cast<float>(-mean - deviation * probit[i]);
  }
  return biases;
}

std::vector<float> Decoded(EncodedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.n_rows * matrix.n_cols));
  kernels::DequantizeRow(matrix.dtype, matrix.bytes.data(), matrix.n_rows * matrix.n_cols,
                         values.data());
  return values;
}

}  // namespace

// The matrices of the layer in hand. Norm weights are 1: then the predictor, which sees the
// residual before the norm, has the sign of what the gate sees after it.
struct Planter::Layer {
  int64_t index = 0;
  std::vector<float> ones;
  EncodedMatrix attn_q, attn_k, attn_v, attn_output, decide, up, down, fc1, fc2;
  std::vector<float> probit;  // of each neuron: NormalQuantile(1 - p)

  TensorView Norm() { return TensorView::F32(ones.data(), 1, static_cast<int64_t>(ones.size())); }
  LayerViews Views(const SynthOptions& options) {
    LayerViews views;
    views.attn_norm = views.ffn_norm = Norm();
    views.attn_q = attn_q.view();
    views.attn_k = attn_k.view();
    views.attn_v = attn_v.view();
    views.attn_output = attn_output.view();
    views.decide = decide.view();
    if (options.gated()) views.up = up.view();
    views.down = down.view();
    views.down_by_neuron = options.powerinfer;
    if (options.powerinfer) {
      views.fc1 = fc1.view();
      views.fc2 = fc2.view();
    }
    return views;
  }
};

std::vector<model::GgufTensorSpec> SynthTensors(const SynthOptions& options) {
  const SynthShape& s = options.shape;
  const DType t = options.dtype;
  std::vector<model::GgufTensorSpec> tensors = {{"token_embd.weight", t, {s.n_vocab, s.n_embd}},
                                                {"output_norm.weight", DType::kF32, {s.n_embd}},
                                                {"output.weight", t, {s.n_vocab, s.n_embd}}};
  for (int64_t i = 0; i < s.n_layer; ++i) {
    const auto add = [&](std::string_view part, DType dtype, std::vector<int64_t> shape) {
      tensors.push_back({LayerName(i, part), dtype, std::move(shape)});
    };
    add("attn_norm", DType::kF32, {s.n_embd});
    add("attn_q", t, {s.n_embd, s.n_embd});
    add("attn_k", t, {s.n_embd_kv(), s.n_embd});
    add("attn_v", t, {s.n_embd_kv(), s.n_embd});
    add("attn_output", t, {s.n_embd, s.n_embd});
    add("ffn_norm", DType::kF32, {s.n_embd});
    if (options.gated()) add("ffn_gate", t, {s.n_ff, s.n_embd});
    add("ffn_up", t, {s.n_ff, s.n_embd});
    if (!options.powerinfer) {
      add("ffn_down", t, {s.n_embd, s.n_ff});
      continue;
    }
    add("ffn_down_t", t, {s.n_ff, s.n_embd});
    add("fc1", options.predictor_dtype, {options.n_predictor, s.n_embd});
    add("fc2", options.predictor_dtype, {s.n_ff, options.n_predictor});
  }
  return tensors;
}

Planter::Planter(const SynthOptions& options, const Tools& tools)
    : options_(options), tools_(tools) {}

Result<std::unique_ptr<Planter>> Planter::Create(const SynthOptions& options, const Tools& tools) {
  std::unique_ptr<Planter> planter(new Planter(options, tools));
  const FiringLaw law{options.density, options.hot_frac, options.hot_share};
  TC_ASSIGN_OR_RETURN(planter->probabilities_, FiringProbabilities(law, options.shape.n_ff));
  for (const double p : planter->probabilities_) {
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
  return PutStreamed("token_embd.weight", table);
}

Status Planter::WriteHead() {
  const SynthShape& s = options_.shape;
  RandomMatrix head =
      Random("output", s.n_vocab, s.n_embd, kLogitDeviation / std::sqrt(double(s.n_embd)));
  head.first_cols = kConstantDims;
  head.first_rows = std::min(kQuietTokens, s.n_vocab - 1);
  const std::vector<float> ones(static_cast<size_t>(s.n_embd), 1.0f);
  TC_RETURN_IF_ERROR(Put("output_norm.weight", Bytes(ones)));
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
  forward_->Attend(layer.Views(options_));
  options_.powerinfer ? MakeLowRankDecider(&layer) : MakeDecider(&layer);
  PlantBiases(&layer);
  MakeDown(&layer);
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

// gate = A V with A[n_ff, r] and V[r, n_embd] as the predictor stores them, so that the predictor
// computes the same sums from r numbers.
void Planter::MakeLowRankDecider(Layer* layer) {
  const SynthShape& s = options_.shape;
  const int64_t rank = (options_.n_predictor - kBiasUnits) / 2;
  RandomMatrix v = Random(LayerName(layer->index, "predict_v"), rank, s.n_embd,
                          1 / std::sqrt(static_cast<double>(s.n_embd)));
  v.first_cols = kConstantDims;
  const RandomMatrix a = Random(LayerName(layer->index, "predict_a"), s.n_ff, rank,
                                1 / std::sqrt(static_cast<double>(rank)));
  const EncodedMatrix a_plain = tools::Encode(a, DType::kF32, tools_.pool);
  MakePredictor(layer, a_plain, tools::Encode(v, DType::kF32, tools_.pool));

  // What the predictor kept of A and V after its own rounding.
  std::vector<float> transposed(static_cast<size_t>(s.n_embd * rank));
  const std::vector<float> fc1 = Decoded(layer->fc1);
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t c = 0; c < s.n_embd; ++c) {
      transposed[static_cast<size_t>(c * rank + r)] = fc1[static_cast<size_t>(r * s.n_embd + c)];
    }
  }
  const TensorView w = TensorView::F32(transposed.data(), s.n_embd, rank);
  layer->decide = EncodedMatrix(options_.dtype, s.n_ff, s.n_embd);
  constexpr int64_t kRowsAtOnce = 512;
  std::vector<float> x(static_cast<size_t>(kRowsAtOnce * rank));
  std::vector<float> y(static_cast<size_t>(kRowsAtOnce * s.n_embd));
  std::vector<float> fc2_row(static_cast<size_t>(options_.n_predictor));
  for (int64_t first = 0; first < s.n_ff; first += kRowsAtOnce) {
    const int64_t n = std::min(kRowsAtOnce, s.n_ff - first);
    for (int64_t i = 0; i < n; ++i) {
      kernels::DequantizeRow(options_.predictor_dtype, layer->fc2.view().row(first + i),
                             options_.n_predictor, fc2_row.data());
      std::copy_n(fc2_row.data(), rank, x.data() + i * rank);
    }
    tools_.device.ops().MatMul(w, TensorView::F32(x.data(), n, rank), {},
                               TensorView::F32(y.data(), n, s.n_embd));
    tools_.pool.ParallelFor(n, [&](int64_t i, int) {
      kernels::QuantizeRow(options_.dtype, {y.data() + i * s.n_embd, static_cast<size_t>(s.n_embd)},
                           layer->decide.view().row(first + i));
    });
  }
}

// fc1 = [V; -V; detectors of the constant], fc2 = [A, -A, bias]: relu(v) - relu(-v) = v, so
// fc2 relu(fc1 x) = A V x + bias. The biases are planted later.
void Planter::MakePredictor(Layer* layer, const EncodedMatrix& a, const EncodedMatrix& v) {
  const SynthShape& s = options_.shape;
  const int64_t rank = v.n_rows, n_hidden = options_.n_predictor;
  const auto* a_values = reinterpret_cast<const float*>(a.bytes.data());
  const auto* v_values = reinterpret_cast<const float*>(v.bytes.data());
  layer->fc1 = EncodedMatrix(options_.predictor_dtype, n_hidden, s.n_embd);
  tools_.pool.ParallelFor(n_hidden, [&](int64_t i, int) {
    std::vector<float> row(static_cast<size_t>(s.n_embd), 0.0f);
    if (i < 2 * rank) {
      const float sign = i < rank ? 1.0f : -1.0f;
      for (int64_t c = 0; c < s.n_embd; ++c) row[c] = sign * v_values[i % rank * s.n_embd + c];
    } else {
      std::fill_n(row.begin(), kConstantDims, 1 / (kConstant * kConstantDims));
    }
    kernels::QuantizeRow(options_.predictor_dtype, row, layer->fc1.view().row(i));
  });
  layer->fc2 = EncodedMatrix(options_.predictor_dtype, s.n_ff, n_hidden);
  tools_.pool.ParallelFor(s.n_ff, [&](int64_t i, int) {
    std::vector<float> row(static_cast<size_t>(n_hidden), 0.0f);
    for (int64_t r = 0; r < rank; ++r) {
      row[r] = a_values[i * rank + r];
      row[rank + r] = -row[r];
    }
    kernels::QuantizeRow(options_.predictor_dtype, row, layer->fc2.view().row(i));
  });
}

void Planter::PlantBiases(Layer* layer) {
  // RMSNorm divides sums and constant alike, so signs are decided before it.
  const std::vector<float> rms = RootMeanSquares(forward_->x());
  std::vector<float> biases =
      BiasesFor(forward_->Decide(layer->Views(options_)), rms, layer->probit);
  const float constant = forward_->x().f32_row(0)[0];
  for (float& b : biases) b /= static_cast<float>(kConstantDims) * constant;
  OverwriteColumns(&layer->decide, 0, kConstantDims, biases, tools_.pool);
  if (options_.powerinfer) PlantPredictorBiases(layer);
}

void Planter::PlantPredictorBiases(Layer* layer) {
  const std::vector<float> ones(tokens_.size(), 1.0f);
  const LayerViews views = layer->Views(options_);
  std::vector<float> biases = BiasesFor(forward_->Predict(views), ones, layer->probit);
  // What a detector of the constant gives, after its rounding.
  std::vector<float> detector(static_cast<size_t>(options_.shape.n_embd));
  kernels::DequantizeRow(options_.predictor_dtype, views.fc1.row(options_.n_predictor - 1),
                         options_.shape.n_embd, detector.data());
  double unit = 0;
  for (int64_t c = 0; c < kConstantDims; ++c) {
    unit += double{detector[static_cast<size_t>(c)]} * forward_->x().f32_row(0)[c];
  }
  for (float& b : biases) b /= static_cast<float>(unit * kBiasUnits);
  OverwriteColumns(&layer->fc2, options_.n_predictor - kBiasUnits, kBiasUnits, biases, tools_.pool);
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
    const int64_t first = chunk * step, n = std::min(step, matrix.n_rows - first);
    std::vector<std::byte> bytes(static_cast<size_t>(n) * row_bytes);
    EncodeRows(matrix, options_.dtype, first, n, bytes.data());
    const Status status = tools_.writer.Put(index, static_cast<uint64_t>(first) * row_bytes, bytes);
    if (!status.ok()) first_error.Report(chunk, status);
    tools_.bar.Advance(bytes.size());
  });
  return first_error.status();
}

}  // namespace thermocline::tools
