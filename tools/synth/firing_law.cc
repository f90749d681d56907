#include "tools/synth/firing_law.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/str.h"

namespace thermocline::tools {
namespace {

// Halvings of an interval of at most 16 binary digits before the point: to the last bit of a
// double.
constexpr int kBisections = 70;
// Steeper laws give 99.9 % of all activations to a hundredth of the neurons.
constexpr double kMaxExponent = 6;

// u^-a of every neuron.
std::vector<double> Powers(double exponent, int64_t n) {
  std::vector<double> powers(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double u = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
    powers[static_cast<size_t>(i)] = std::pow(u, -exponent);
  }
  return powers;
}

double MeanOf(const std::vector<double>& powers, double scale) {
  double sum = 0;
  for (const double power : powers) sum += std::min(kMaxFiring, scale * power);
  return sum / static_cast<double>(powers.size());
}

// The largest x in [low, high] for which `is_low` still holds; is_low falls once.
template <typename Predicate>
double Bisect(double low, double high, Predicate is_low) {
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    (is_low(middle) ? low : high) = middle;
  }
  return low;
}

// The law of this exponent with the wanted mean.
std::vector<double> WithMean(double exponent, double mean, int64_t n) {
  std::vector<double> p = Powers(exponent, n);
  const double scale = Bisect(0, 1, [&](double c) { return MeanOf(p, c) < mean; });
  for (double& v : p) v = std::min(kMaxFiring, scale * v);
  return p;
}

double ShareOfHot(const std::vector<double>& p, double hot_frac) {
  const auto n_hot = static_cast<std::ptrdiff_t>(std::llround(hot_frac * double(p.size())));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  return std::accumulate(p.begin(), p.begin() + n_hot, 0.0) / total;
}

}  // namespace

Result<std::vector<double>> FiringProbabilities(const FiringLaw& law, int64_t n) {
  const double exponent = Bisect(0, kMaxExponent, [&](double a) {
    return ShareOfHot(WithMean(a, law.density, n), law.hot_frac) < law.hot_share;
  });
  std::vector<double> p = WithMean(exponent, law.density, n);
  // Rounding n_hot to whole neurons moves the share of small layers by about one neuron's.
  constexpr double kTolerance = 0.02;
  const double share = ShareOfHot(p, law.hot_frac);
  if (std::fabs(share - law.hot_share) <= kTolerance) return p;
  return InvalidArgument(Str("no power law fires like this:", Kv("density", law.density),
                             Kv("hot_frac", law.hot_frac), Kv("hot_share", law.hot_share),
                             Kv("nearest_share", share)));
}

double NormalQuantile(double p) {
  // Start from the logistic curve of the same slope at 0, which is off by less than 0.6 within
  // |x| < 4; the steps converge from there, being damped where the density is tiny.
  double x = std::log(p / (1 - p)) / 1.702;
  for (int i = 0; i < 60; ++i) {
    const double below = std::erfc(-x / std::numbers::sqrt2) / 2;
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double step = std::clamp((below - p) / density, -0.5, 0.5);
    x -= step;
    if (std::fabs(step) < 1e-13) break;
  }
  return x;
}

}  // namespace thermocline::tools
