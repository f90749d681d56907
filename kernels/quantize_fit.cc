#include "kernels/quantize_fit.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace thermocline::kernels {
namespace {

// Sums run in this many lanes, added at the end in a fixed order, so that the compiler may use
// vectors and every machine gets the same bits. Groups have 16 or 32 elements.
constexpr size_t kLanes = 16;

// A step of the rounding that is tried, and how many on each side of the obvious one: a smaller
// scale clips the extremes and rounds the rest finer, a larger one rarely helps. Finer or wider
// searches lowered the error of Gaussian weights by less than 0.3 %.
constexpr float kStep = 0.15f;
constexpr int kSmaller = 9;
constexpr int kLarger = 3;

float Total(const float* lanes) {
  float sum = 0;
  for (size_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

// Sums over a group of the integers q that a rounding gives, and of their products with w.
struct Sums {
  float q = 0, qq = 0, qw = 0;
};

// q = clamp(round(inverse * (w - shift)), low, high).
struct Rounding {
  float inverse = 0, shift = 0, low = 0, high = 0;
};

Sums SumsOf(std::span<const float> w, const Rounding& r) {
  float q_lanes[kLanes] = {}, qq_lanes[kLanes] = {}, qw_lanes[kLanes] = {};
  for (size_t i = 0; i < w.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float v = w[i + j];
      const float q = Clamp(RoundNearest(r.inverse * (v - r.shift)), r.low, r.high);
      q_lanes[j] += q;
      qq_lanes[j] += q * q;
      qw_lanes[j] += q * v;
    }
  }
  return {Total(q_lanes), Total(qq_lanes), Total(qw_lanes)};
}

float SumOf(std::span<const float> w) {
  float lanes[kLanes] = {};
  for (size_t i = 0; i < w.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lanes[j] += w[i + j];
  }
  return Total(lanes);
}

// Normal equations of min over (scale, min) of sum (scale q - min - w)^2, held to both >= 0.
ScaleAndMin Solve(const Sums& s, float sum_w, float n) {
  const float determinant = n * s.qq - s.q * s.q;
  if (determinant <= 0) return {0, std::max(0.0f, -sum_w / n)};
  ScaleAndMin fit{(n * s.qw - s.q * sum_w) / determinant,
                  (s.q * s.qw - s.qq * sum_w) / determinant};
  if (fit.min < 0) fit = {s.qq > 0 ? s.qw / s.qq : 0.0f, 0};
  if (fit.scale < 0) fit = {0, std::max(0.0f, -sum_w / n)};
  return fit;
}

// The squared error of a fit less the sum of w^2, which no fit changes.
float ErrorOf(const ScaleAndMin& fit, const Sums& s, float sum_w, float n) {
  return fit.scale * (fit.scale * s.qq - 2 * fit.min * s.q - 2 * s.qw) +
         fit.min * (fit.min * n + 2 * sum_w);
}

}  // namespace

float FitScale(std::span<const float> w, int n_levels) {
  DCHECK(w.size() % kLanes == 0);
  float extreme = 0;
  for (const float v : w) {
    if (std::fabs(v) > std::fabs(extreme)) extreme = v;
  }
  if (extreme == 0) return 0;
  const auto levels = static_cast<float>(n_levels);
  float best_scale = extreme / -levels;
  float best_gain = 0;  // how much the fit takes off the sum of w^2
  for (int step = -kSmaller; step <= kLarger; ++step) {
    const float inverse = -(levels - kStep * static_cast<float>(step)) / extreme;
    if (!std::isfinite(inverse)) break;
    const Sums s = SumsOf(w, {inverse, 0, -levels, levels - 1});
    if (s.qq > 0 && s.qw * s.qw > best_gain * s.qq) {
      best_gain = s.qw * s.qw / s.qq;
      best_scale = s.qw / s.qq;
    }
  }
  return best_scale;
}

ScaleAndMin FitScaleAndMin(std::span<const float> w, int n_levels) {
  DCHECK(w.size() % kLanes == 0);
  const auto [least, most] = std::minmax_element(w.begin(), w.end());
  const float low = std::min(0.0f, *least);
  const float range = *most - low;
  if (!(range > 0)) return {0, -low};  // a negative constant
  const auto top = static_cast<float>(n_levels - 1);
  const auto n = static_cast<float>(w.size());
  const float sum_w = SumOf(w);
  ScaleAndMin best{range / top, -low};
  float best_error = ErrorOf(best, SumsOf(w, {top / range, low, 0, top}), sum_w, n);
  for (int step = -kSmaller; step <= kLarger; ++step) {
    const float inverse = (top - kStep * static_cast<float>(step)) / range;
    if (!std::isfinite(inverse)) break;
    const Sums s = SumsOf(w, {inverse, low, 0, top});
    const ScaleAndMin fit = Solve(s, sum_w, n);
    const float error = ErrorOf(fit, s, sum_w, n);
    if (error < best_error) {
      best = fit;
      best_error = error;
    }
  }
  return best;
}

float FitError(std::span<const float> w, ScaleAndMin fit, int n_levels) {
  const float inverse = fit.scale > 0 ? 1 / fit.scale : 0;
  const auto top = static_cast<float>(n_levels - 1);
  float lanes[kLanes] = {};
  for (size_t i = 0; i < w.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float v = w[i + j];
      const float q = Clamp(RoundNearest(inverse * (v + fit.min)), 0, top);
      const float error = fit.scale * q - fit.min - v;
      lanes[j] += error * error;
    }
  }
  return Total(lanes);
}

}  // namespace thermocline::kernels
