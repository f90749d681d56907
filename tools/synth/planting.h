// The arithmetic of planting sparsity: thresholds from measured values, and writing them into rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/tensor_view.h"
#include "base/thread_pool.h"
#include "tools/synth/random_matrix.h"

namespace thermocline::tools {

// The order in which a layer's neurons take the descending probabilities (Fisher and Yates 1938).
std::vector<int32_t> Shuffled(int64_t n, uint64_t seed, uint64_t stream);

// Root mean square with epsilon of each row: what RMSNorm divides by.
std::vector<float> RootMeanSquares(TensorView x);
// The same of each row's distance from its mean: what LayerNorm divides by.
std::vector<float> Deviations(TensorView x);
float MeanOf(TensorView x);
// Share of the elements above 0.
double ShareAboveZero(TensorView z);
// Mean over rows of the sum of squares.
double MeanSquaredNorm(TensorView a);

// The bias that makes each neuron's value positive with its probability: values[t, i] is what it
// has without, values of row t are multiplied by scale[t] first, and probit[i] is
// NormalQuantile(1 - p). Values are taken to be normal: sums of many weights.
std::vector<float> BiasesFor(TensorView values, std::span<const float> scale,
                             std::span<const float> probit);

// Gives the elements [first, first + n) of each row i the value values[i]. Whole blocks are encoded
// again, from what they decode to.
void OverwriteColumns(EncodedMatrix* matrix, int64_t first, int64_t n,
                      std::span<const float> values, ThreadPool& pool);

}  // namespace thermocline::tools
