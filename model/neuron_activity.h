// What the neurons of one FFN did over a text, and how unevenly they did it: numbers only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thermocline::model {

// Batch sizes at which profiles say how many neurons at least one of the tokens needs.
inline constexpr std::array<int, 7> kUnionBatches = {1, 2, 4, 8, 16, 32, 64};
inline constexpr size_t kNumUnionBatches = kUnionBatches.size();
using UnionShares = std::array<float, kNumUnionBatches>;

// Magnitudes are described by their quantiles 0/100, 1/100 ... 100/100.
inline constexpr size_t kNumQuantiles = 101;

// Extremes and mean magnitude of the values seen.
struct ValueRange {
  float min = 0;
  float max = 0;
  double abs_sum = 0;
  uint64_t n_values = 0;

  void Add(std::span<const float> values);
  double abs_mean() const { return n_values == 0 ? 0 : abs_sum / static_cast<double>(n_values); }
};

// The neurons of one layer. "Magnitude" is |act(gate x)|, or |act(up x)| without a gate.
struct LayerActivity {
  // A neuron is active when its magnitude exceeds this; 0 for activations with exact zeros.
  float active_threshold = 0;
  std::vector<uint64_t> fired;    // [n_ff]: tokens for which the neuron was active
  std::vector<float> peaks;       // [n_ff]: largest magnitude; empty when not measured
  std::vector<float> quantiles;   // [kNumQuantiles] of all magnitudes; empty when not measured
  UnionShares union_shares = {};  // of n_ff, by kUnionBatches; zeros when not measured
  ValueRange input;               // of the FFN: the output of ffn_norm
  ValueRange gate;                // before the activation (of up without a gate)
  ValueRange activation;          // what the down projection reads
};

// Share of (token, neuron) pairs that were active.
double Density(std::span<const uint64_t> fired, uint64_t n_tokens);

// Gini coefficient of the counts: 0 when all neurons fire equally often, near 1 when one does it
// all. 0 without any count. Source: Dixon et al. 1987, for a finite population:
// sum_i (2 i - n - 1) c_i / (n sum_i c_i), counts ascending, i from 1.
double Gini(std::span<const uint64_t> fired);

// The smallest share of neurons that makes `mass` (0 to 1) of all activations; 0 without any.
double ShareForMass(std::span<const uint64_t> fired, double mass);

// Counts in descending order: the frequency curve.
std::vector<uint64_t> ByRank(std::span<const uint64_t> fired);

// Which neurons were active for some tokens, a bit each. Thread-compatible.
class ActivityMasks {
 public:
  explicit ActivityMasks(int64_t n_ff = 0)
      : n_ff_(n_ff), n_words_(static_cast<size_t>((n_ff + 63) / 64)) {}

  // The memory of one token's mask.
  static uint64_t BytesPerToken(int64_t n_ff) {
    return static_cast<uint64_t>((n_ff + 63) / 64) * sizeof(uint64_t);
  }
  // Adds a token of window `window`; a neuron is active when |value| > threshold.
  void Add(std::span<const float> values, float threshold, int window);

  int64_t n_ff() const { return n_ff_; }
  size_t n_tokens() const { return windows_.size(); }
  int window(size_t token) const { return windows_[token]; }
  std::span<const uint64_t> mask(size_t token) const {
    return std::span(words_).subspan(token * n_words_, n_words_);
  }
  bool active(size_t token, int64_t neuron) const {
    return (mask(token)[static_cast<size_t>(neuron / 64)] >> (neuron % 64)) & 1;
  }

 private:
  int64_t n_ff_;
  size_t n_words_;
  std::vector<uint64_t> words_;
  std::vector<int> windows_;
};

// Mean share of neurons that are active for at least one of B tokens, each from another window of
// the text as long as there are enough: what a batch of B unrelated sequences needs. An average of
// draws that `seed` fixes; equal to the density at B = 1 up to the choice of tokens.
UnionShares UnionCurve(const ActivityMasks& masks, uint64_t seed);

// The share of neurons that B tokens need, one needing `density`: by the curve, between its points
// by straight lines over log B, beyond the last as if groups of that many tokens chose
// independently. Without a curve (zeros) as if all tokens did: 1 - (1 - density)^B.
double UnionShareAt(const UnionShares& curve, double density, int64_t n_tokens);

// Values by magnitude, in constant memory: quantiles are right to one part in 32.
// Thread-compatible.
class MagnitudeHistogram {
 public:
  MagnitudeHistogram() : counts_(kNumBins, 0) {}
  void Add(std::span<const float> values);
  uint64_t n_values() const { return n_values_; }
  // The magnitude that a share `q` (0 to 1) of the values does not exceed; 0 without values.
  float Quantile(double q) const;
  std::vector<float> Quantiles() const;

 private:
  // Each octave has 32 bins, so that the bin is the top of the float's bits. Magnitudes from 2^-24,
  // F16's smallest value, to 2^24; smaller ones count as 0, larger ones in the last bin.
  static constexpr uint32_t kShift = 23 - 5;
  static constexpr int kMinExponent = -24, kMaxExponent = 24;
  static constexpr size_t kNumBins = (kMaxExponent - kMinExponent) * 32 + 1;
  static size_t BinOf(float value);
  static float LowerEdge(size_t bin);

  std::vector<uint64_t> counts_;
  uint64_t n_values_ = 0;
};

}  // namespace thermocline::model
