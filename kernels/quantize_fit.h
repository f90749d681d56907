// Least-squares fits of a group of weights by a scale (and a minimum) and small integers.
#pragma once

#include <cstdint>
#include <span>

namespace thermocline::kernels {

// Nearest integer, ties to even, for |v| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
// Unlike nearbyintf it compiles to vector code on every instruction set.
inline float RoundNearest(float v) {
  constexpr float kMagic = 12582912.0f;
  return (v + kMagic) - kMagic;
}
inline float Clamp(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }

// w ~ scale * q with q in [-n_levels, n_levels - 1]; 0 for a group of zeros. Either sign: the end
// with one level more serves the side with the larger magnitude.
float FitScale(std::span<const float> w, int n_levels);

// w ~ scale * q - min with q in [0, n_levels - 1], scale >= 0, min >= 0.
struct ScaleAndMin {
  float scale = 0;
  float min = 0;
};
ScaleAndMin FitScaleAndMin(std::span<const float> w, int n_levels);

// Squared error of w against fit.scale * q - fit.min with the best q in [0, n_levels - 1].
float FitError(std::span<const float> w, ScaleAndMin fit, int n_levels);

}  // namespace thermocline::kernels
