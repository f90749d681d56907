// The neurons of a list: rows of gate and up by MatMulRows, then one pass over the list.
#include <cmath>

#include "kernels/cpu/ops.h"

namespace thermocline::kernels::cpu {
namespace {

float Activated(Activation kind, float x) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1.0f + std::exp(-x));
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    case Activation::kReluSquared:
      return x > 0 ? x * x : 0.0f;
  }
  return 0.0f;
}

}  // namespace

void Neurons(CpuContext& context, const NeuronWeights& weights, Activation kind, TensorView x,
             ActiveIds active, const NeuronNeeds& needs, TensorView a) {
  const int64_t n_ff = weights.up.n_rows;
  const bool gate_is_known = !needs.activations.empty();
  std::vector<float>& memory = context.neurons;
  memory.resize(static_cast<size_t>(2 * x.n_rows * n_ff));
  const TensorView up = TensorView::F32(memory.data(), x.n_rows, n_ff);
  const TensorView gate = TensorView::F32(memory.data() + x.n_rows * n_ff, x.n_rows, n_ff);
  MatMulRows(context, weights.up, x, weights.up_bias, active, up);
  const bool is_gated = gate_is_known || !weights.gate.empty();
  if (is_gated && !gate_is_known) {
    MatMulRows(context, weights.gate, x, weights.gate_bias, active, gate);
  }
  for (int64_t t = 0; t < x.n_rows; ++t) {
    for (int64_t n = 0; n < active.count(n_ff); ++n) {
      const int64_t i = active.id(n);
      float value = 0;
      if (needs.Needs(t, i)) {
        value = up.f32_row(t)[i];
        if (weights.activates_up || !is_gated) value = Activated(kind, value);
        if (is_gated) {
          value *=
              gate_is_known ? needs.activations.f32_row(t)[i] : Activated(kind, gate.f32_row(t)[i]);
        }
      }
      a.f32_row(t)[i] = value;
    }
  }
}

}  // namespace thermocline::kernels::cpu
