// The parts of Planter that make PowerInfer's predictors and the gates that they predict exactly.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/quantize.h"
#include "tools/synth/planted_layer.h"
#include "tools/synth/planter.h"
#include "tools/synth/planting.h"

namespace thermocline::tools {
namespace {

// Rank of the gate. Whole groups of 32 hidden units hold A and -A, so that both round alike, and at
// least one group is left for the bias.
int64_t RankOf(int64_t n_predictor) { return (n_predictor - 32) / 64 * 32; }
int64_t NumBiasUnits(int64_t n_predictor) { return n_predictor - 2 * RankOf(n_predictor); }

std::vector<float> Decoded(EncodedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.n_rows * matrix.n_cols));
  kernels::DequantizeRow(matrix.dtype, matrix.bytes.data(), matrix.n_rows * matrix.n_cols,
                         values.data());
  return values;
}

}  // namespace

// gate = A V with A[n_ff, r] and V[r, n_embd] as the predictor stores them, so that the predictor
// computes the same sums from r numbers.
void Planter::MakeLowRankDecider(Layer* layer) {
  const SynthShape& s = options_.shape;
  const int64_t rank = RankOf(options_.n_predictor);
  RandomMatrix v = Random(LayerName(layer->index, "predict_v"), rank, s.n_embd,
                          1 / std::sqrt(static_cast<double>(s.n_embd)));
  v.first_cols = kConstantDims;
  const RandomMatrix a = Random(LayerName(layer->index, "predict_a"), s.n_ff, rank,
                                1 / std::sqrt(static_cast<double>(rank)));
  const EncodedMatrix a_plain = tools::Encode(a, DType::kF32, tools_.pool);
  MakePredictor(layer, a_plain, tools::Encode(v, DType::kF32, tools_.pool));
  MultiplyPredictor(layer, rank);
}

// decide = A V, from what the predictor kept of A and V after its own rounding.
void Planter::MultiplyPredictor(Layer* layer, int64_t rank) {
  const SynthShape& s = options_.shape;
  std::vector<float> transposed(static_cast<size_t>(s.n_embd * rank));
  const std::vector<float> fc1 = Decoded(layer->fc1);
  for (int64_t r = 0; r < rank; ++r) {
    for (int64_t c = 0; c < s.n_embd; ++c) {
      transposed[static_cast<size_t>(c * rank + r)] = fc1[static_cast<size_t>(r * s.n_embd + c)];
    }
  }
  const TensorView w = TensorView::F32(transposed.data(), s.n_embd, rank);
  layer->decide = EncodedMatrix(options_.dtype, s.n_ff, s.n_embd);
  constexpr int64_t kRowsAtOnce = 512;  // a batch that keeps every thread busy
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
  const int64_t n_units = NumBiasUnits(options_.n_predictor);
  for (float& b : biases) b /= static_cast<float>(unit * static_cast<double>(n_units));
  OverwriteColumns(&layer->fc2, options_.n_predictor - n_units, n_units, biases, tools_.pool);
}

}  // namespace thermocline::tools
