// Sums of neuron rows in F64: what members of a stage add, and the rounding at the end.
#include "kernels/cpu/ops.h"

namespace thermocline::kernels::cpu {
namespace {

// Calls fn(t) for each row.
template <typename Fn>
void ForRows(CpuContext& context, const SumsView& sums, Fn fn) {
  ForParts(context, sums.n_rows, 1, MinItems(sums.n_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) fn(t);
  });
}

}  // namespace

void AddSums(CpuContext& context, SumsView sums, SumsView part) {
  DCHECK(sums.n_rows == part.n_rows && sums.n_cols == part.n_cols);
  ForRows(context, sums, [&](int64_t t) {
    double* const to = sums.row(t);
    const double* const from = part.row(t);
    for (int64_t c = 0; c < sums.n_cols; ++c) to[c] += from[c];
  });
}

void RoundSums(CpuContext& context, SumsView sums, SumsView part, TensorView bias, TensorView y) {
  DCHECK(sums.n_rows == y.n_rows && sums.n_cols == y.n_cols);
  ForRows(context, sums, [&](int64_t t) {
    const double* const sum = sums.row(t);
    const double* const more = part.empty() ? nullptr : part.row(t);
    const float* const added = bias.empty() ? nullptr : bias.f32_row(0);
    float* const to = y.f32_row(t);
    for (int64_t c = 0; c < sums.n_cols; ++c) {
      const double both = more == nullptr ? sum[c] : sum[c] + more[c];
      to[c] = static_cast<float>(added == nullptr ? both : both + added[c]);
    }
  });
}

}  // namespace thermocline::kernels::cpu
