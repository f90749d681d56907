// A predictor without training: the gate rows (up rows in an FFN without gate) at a low rank.
//
// Of all rank-r maps A B it takes the one with the smallest mean squared error of the scores,
// E |W x - A B x|^2 = |(W - A B) L|^2 with C = E[x x^T] = L L^T over the calibration text: the
// leading right singular vectors V of W L give A = W L V and B = V^T L^-1 (Eckart & Young 1936; the
// weighting by activations as in ASVD, Yuan et al. 2023). Active is then a question of the sign, or
// of the size, of an approximate score.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "tools/profile/predictor.h"

namespace thermocline::tools {

// All ranks up to one, from which smaller ones are cut. Immutable.
class LowRankPredictors {
 public:
  // `rows` is W[n_ff, n_embd]. kInvalidArgument when W or the samples hold a value that is not
  // finite.
  static Result<LowRankPredictors> Create(kernels::Device& device, TensorView rows,
                                          const LayerSamples& samples, SampleRange range,
                                          int64_t max_rank, uint64_t seed);

  int64_t max_rank() const { return fc1_.rows; }
  Predictor OfRank(int64_t rank) const;

 private:
  Matrix fc1_;    // [max_rank, n_embd], the most important first
  Matrix fc2_t_;  // [max_rank, n_ff]
};

// The lower triangle L with L L^T = c + ridge I, in double. Exposed for tests. `c` is symmetric;
// the ridge is a millionth of its mean diagonal.
Matrix CholeskyFactor(const Matrix& c);

}  // namespace thermocline::tools
