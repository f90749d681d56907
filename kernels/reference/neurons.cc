#include <vector>

#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

// Row i of `w` with every token; empty when there is no such matrix.
std::vector<double> RowDots(TensorView w, TensorView bias, int64_t i, TensorView x) {
  std::vector<double> dots;
  if (w.empty()) return dots;
  std::vector<float> row(static_cast<size_t>(w.n_cols));
  DequantizeRow(w.dtype, w.row(i), w.n_cols, row.data());
  for (int64_t t = 0; t < x.n_rows; ++t) {
    double sum = bias.empty() ? 0.0 : bias.f32_row(0)[i];
    for (int64_t c = 0; c < w.n_cols; ++c) {
      sum += static_cast<double>(row[static_cast<size_t>(c)]) * x.f32_row(t)[c];
    }
    dots.push_back(sum);
  }
  return dots;
}

}  // namespace

void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
             const NeuronNeeds& needs, TensorView a) {
  const bool gate_is_known = !needs.activations.empty();
  for (int64_t n = 0; n < active.count(weights.up.n_rows); ++n) {
    const int64_t i = active.id(n);
    const auto gate = RowDots(gate_is_known ? TensorView{} : weights.gate, weights.gate_bias, i, x);
    const auto up = RowDots(weights.up, weights.up_bias, i, x);
    for (int64_t t = 0; t < x.n_rows; ++t) {
      const auto token = static_cast<size_t>(t);
      double value = 0;
      if (needs.Needs(t, i)) {
        const bool is_gated = gate_is_known || !gate.empty();
        value = weights.activates_up || !is_gated ? Activated(kind, up[token]) : up[token];
        if (gate_is_known) value *= needs.activations.f32_row(t)[i];
        if (!gate.empty()) value *= Activated(kind, gate[token]);
      }
      a.f32_row(t)[i] = static_cast<float>(value);
    }
  }
}

}  // namespace thermocline::kernels::reference
