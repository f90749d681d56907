// The neurons of a list: each row is read once, while the next one is fetched, and multiplied with
// the tokens that need it.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/row_dot.h"

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

// One matrix of the neurons with the tokens as its rows want them.
struct Matrix {
  TensorView w;
  const float* bias = nullptr;
  RowDot dot = nullptr;

  Matrix(const TensorView& weight, const TensorView& bias_view) : w(weight) {
    if (!bias_view.empty()) bias = bias_view.f32_row(0);
    if (!w.empty()) dot = RowDotOf(w);
  }
  float Value(int64_t i, const std::byte* next, const TokenRows& x, int64_t t) const {
    const float value = dot(w.row(i), next, x.row(t), w.n_cols);
    return bias == nullptr ? value : value + bias[i];
  }
};

struct Job {
  Matrix gate, up;
  Activation kind;
  bool activates_up;
  ActiveIds active;
  NeuronNeeds needs;
  TensorView a;

  bool gate_is_known() const { return !needs.activations.empty(); }
  bool reads_gate() const { return !gate_is_known() && !gate.w.empty(); }
};

// Neuron i for token t. The gate comes first: where it is 0 the row of up is not wanted.
float NeuronValue(const Job& job, int64_t i, int64_t next_id, const TokenRows& gate_x,
                  const TokenRows& up_x, int64_t t) {
  float gate = 1.0f;
  if (job.gate_is_known()) gate = job.needs.activations.f32_row(t)[i];
  if (job.reads_gate()) {
    gate = Activated(job.kind, job.gate.Value(i, job.up.w.row(i), gate_x, t));
    if (gate == 0.0f) return 0.0f;
  }
  const std::byte* next = job.reads_gate() ? job.gate.w.row(next_id) : job.up.w.row(next_id);
  const float up = job.up.Value(i, next, up_x, t);
  const bool is_gated = job.gate_is_known() || job.reads_gate();
  return gate * (job.activates_up || !is_gated ? Activated(job.kind, up) : up);
}

void RunPart(const Job& job, const TokenRows& gate_x, const TokenRows& up_x, int64_t begin,
             int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const int64_t i = job.active.id(n), next_id = job.active.id(std::min(n + 1, end - 1));
    for (int64_t t = 0; t < job.a.n_rows; ++t) {
      const bool is_needed = job.needs.Needs(t, i);
      job.a.f32_row(t)[i] = is_needed ? NeuronValue(job, i, next_id, gate_x, up_x, t) : 0.0f;
    }
  }
}

}  // namespace

void Neurons(CpuContext& context, const NeuronWeights& weights, Activation kind, TensorView x,
             ActiveIds active, const NeuronNeeds& needs, TensorView a) {
  const Job job = {.gate = {weights.gate, weights.gate_bias},
                   .up = {weights.up, weights.up_bias},
                   .kind = kind,
                   .activates_up = weights.activates_up,
                   .active = active,
                   .needs = needs,
                   .a = a};
  const bool is_packed = weights.up.layout == RowLayout::kLanes ||
                         (job.reads_gate() && weights.gate.layout == RowLayout::kLanes);
  const TokenRows floats(x);
  const TokenRows bytes = is_packed ? TokenRows::Rounded(context, x) : floats;
  const TokenRows& gate_x = weights.gate.layout == RowLayout::kLanes ? bytes : floats;
  const TokenRows& up_x = weights.up.layout == RowLayout::kLanes ? bytes : floats;
  ForParts(context, active.count(weights.up.n_rows), 1, MinItems(2 * x.n_cols),
           [&](int64_t begin, int64_t end, int) { RunPart(job, gate_x, up_x, begin, end); });
}

}  // namespace thermocline::kernels::cpu
