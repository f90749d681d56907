// How often each neuron of a synthetic layer fires.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace thermocline::tools {

struct FiringLaw {
  double density = 0;    // mean probability
  double hot_frac = 0;   // this share of the neurons ...
  double hot_share = 0;  // ... makes this share of the activations
};

// Probabilities of n neurons, descending: min(kMaxFiring, c u^-a) at u = (i + 1/2) / n, with c and
// a solved for the mean and the share. PowerInfer (Song et al. 2023, fig. 5) found such power laws
// in ReLU models. kInvalidArgument when no exponent gives them both.
Result<std::vector<double>> FiringProbabilities(const FiringLaw& law, int64_t n);

// No neuron fires more often: a bias set from a few hundred tokens cannot tell 98 % from always.
inline constexpr double kMaxFiring = 0.98;

// x with P(N(0, 1) < x) = p, for p in (0, 1); to about 1e-12, by Newton steps on erfc.
double NormalQuantile(double p);

}  // namespace thermocline::tools
