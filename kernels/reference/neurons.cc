#include <vector>

#include "kernels/reference/ops.h"
#include "kernels/reference/row_dots.h"

namespace thermocline::kernels::reference {
namespace {

// A matrix of the neurons with the tokens that it multiplies.
struct Matrix {
  TensorView w, bias;
  std::vector<std::vector<double>> tokens;

  Matrix(TensorView weight, TensorView bias_row, const TensorView& x) : w(weight), bias(bias_row) {
    if (!w.empty()) tokens = TokenValues(w, x);
  }
  // Row i with every token; empty when there is no such matrix.
  std::vector<double> Dots(int64_t i) const {
    if (w.empty()) return {};
    std::vector<double> dots = RowDots(w, i, tokens);
    if (!bias.empty()) {
      for (double& dot : dots) dot += bias.f32_row(0)[i];
    }
    return dots;
  }
};

}  // namespace

void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
             const NeuronNeeds& needs, TensorView a) {
  const bool gate_is_known = !needs.activations.empty();
  const Matrix gate_matrix(gate_is_known ? TensorView{} : weights.gate, weights.gate_bias, x);
  const Matrix up_matrix(weights.up, weights.up_bias, x);
  for (int64_t n = 0; n < active.count(weights.up.n_rows); ++n) {
    const int64_t i = active.id(n);
    const std::vector<double> gate = gate_matrix.Dots(i), up = up_matrix.Dots(i);
    const bool is_gated = gate_is_known || !gate.empty();
    for (int64_t t = 0; t < x.n_rows; ++t) {
      const auto token = static_cast<size_t>(t);
      double value = 0;
      if (needs.Needs(t, i)) {
        value = weights.activates_up || !is_gated ? Activated(kind, up[token]) : up[token];
        if (gate_is_known) value *= needs.activations.f32_row(t)[i];
        if (!gate.empty()) value *= Activated(kind, gate[token]);
      }
      a.f32_row(t)[i] = static_cast<float>(value);
    }
  }
}

}  // namespace thermocline::kernels::reference
