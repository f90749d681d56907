#include "model/neuron_activity.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/check.h"
#include "base/rng.h"

namespace thermocline::model {
namespace {

// Draws per batch size; their spread falls with its root, and 64 of batch 64 use 4096 masks.
constexpr uint64_t kUnionDraws = 64;

double Sum(std::span<const uint64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), 0.0,
                         [](double sum, uint64_t c) { return sum + static_cast<double>(c); });
}

size_t UniformIndex(uint64_t seed, uint64_t position, size_t n) {
  return std::min(n - 1, static_cast<size_t>(UniformAt(seed, position) * static_cast<double>(n)));
}

// The tokens of each window that has any.
std::vector<std::vector<size_t>> TokensByWindow(const ActivityMasks& masks) {
  std::vector<std::vector<size_t>> by_window;
  for (size_t token = 0; token < masks.n_tokens(); ++token) {
    const auto window = static_cast<size_t>(masks.window(token));
    if (window >= by_window.size()) by_window.resize(window + 1);
    by_window[window].push_back(token);
  }
  std::erase_if(by_window, [](const auto& tokens) { return tokens.empty(); });
  return by_window;
}

// The first `n` entries of a shuffle of `items` (Fisher and Yates); further ones stay as they are.
void ShufflePrefix(uint64_t seed, uint64_t position, size_t n, std::vector<size_t>* items) {
  for (size_t i = 0; i < std::min(n, items->size()); ++i) {
    const size_t j = i + UniformIndex(seed, position + i, items->size() - i);
    std::swap((*items)[i], (*items)[j]);
  }
}

int64_t CountBits(std::span<const uint64_t> words) {
  int64_t n = 0;
  for (const uint64_t word : words) n += std::popcount(word);
  return n;
}

}  // namespace

void ValueRange::Add(std::span<const float> values) {
  if (values.empty()) return;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  min = n_values == 0 ? *low : std::min(min, *low);
  max = n_values == 0 ? *high : std::max(max, *high);
  for (const float v : values) abs_sum += std::fabs(v);
  n_values += values.size();
}

double Density(std::span<const uint64_t> fired, uint64_t n_tokens) {
  if (fired.empty() || n_tokens == 0) return 0;
  return Sum(fired) / (static_cast<double>(fired.size()) * static_cast<double>(n_tokens));
}

std::vector<uint64_t> ByRank(std::span<const uint64_t> fired) {
  std::vector<uint64_t> ranked(fired.begin(), fired.end());
  std::sort(ranked.begin(), ranked.end(), std::greater<>());
  return ranked;
}

double Gini(std::span<const uint64_t> fired) {
  const double total = Sum(fired);
  if (total == 0) return 0;
  const std::vector<uint64_t> ranked = ByRank(fired);
  const auto n = static_cast<double>(ranked.size());
  double weighted = 0;
  for (size_t i = 0; i < ranked.size(); ++i) {
    const double ascending = n - static_cast<double>(i);  // 1 for the smallest
    weighted += (2 * ascending - n - 1) * static_cast<double>(ranked[i]);
  }
  return weighted / (n * total);
}

double ShareForMass(std::span<const uint64_t> fired, double mass) {
  const double total = Sum(fired);
  if (total == 0) return 0;
  const std::vector<uint64_t> ranked = ByRank(fired);
  double seen = 0;
  size_t n = 0;
  while (n < ranked.size() && seen < mass * total) seen += static_cast<double>(ranked[n++]);
  return static_cast<double>(n) / static_cast<double>(ranked.size());
}

void ActivityMasks::Add(std::span<const float> values, float threshold, int window) {
  DCHECK(static_cast<int64_t>(values.size()) == n_ff_);
  const size_t begin = words_.size();
  words_.resize(begin + n_words_, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bit = std::fabs(values[i]) > threshold ? 1 : 0;
    words_[begin + i / 64] |= bit << (i % 64);
  }
  windows_.push_back(window);
}

double UnionShareAt(const UnionShares& curve, double density, int64_t n_tokens) {
  const auto n = static_cast<double>(n_tokens);
  if (n_tokens <= 1) return density;
  if (curve.back() == 0) return 1 - std::pow(1 - density, n);
  if (n_tokens >= kUnionBatches.back()) {
    return 1 - std::pow(1 - static_cast<double>(curve.back()), n / kUnionBatches.back());
  }
  const auto above =
      static_cast<size_t>(std::upper_bound(kUnionBatches.begin(), kUnionBatches.end(), n_tokens) -
                          kUnionBatches.begin());
  // The first point is the density itself, but for the choice of tokens.
  const double low = above == 1 ? density : static_cast<double>(curve[above - 1]);
  const double way =
      std::log2(n / kUnionBatches[above - 1]) /
      std::log2(static_cast<double>(kUnionBatches[above]) / kUnionBatches[above - 1]);
  return low + way * (static_cast<double>(curve[above]) - low);
}

UnionShares UnionCurve(const ActivityMasks& masks, uint64_t seed) {
  UnionShares shares = {};
  const std::vector<std::vector<size_t>> by_window = TokensByWindow(masks);
  if (by_window.empty()) return shares;
  std::vector<size_t> order(by_window.size());
  std::iota(order.begin(), order.end(), size_t{0});
  uint64_t position = 0;  // in the stream of random numbers
  for (size_t b = 0; b < kNumUnionBatches; ++b) {
    const auto batch = static_cast<size_t>(kUnionBatches[b]);
    int64_t n_active = 0;
    for (uint64_t draw = 0; draw < kUnionDraws; ++draw) {
      std::vector<uint64_t> joined(masks.mask(0).size(), 0);
      ShufflePrefix(seed, position, batch, &order);
      position += batch;
      for (size_t i = 0; i < batch; ++i) {
        const auto& tokens = by_window[order[i % order.size()]];
        const auto mask = masks.mask(tokens[UniformIndex(seed, position++, tokens.size())]);
        for (size_t w = 0; w < joined.size(); ++w) joined[w] |= mask[w];
      }
      n_active += CountBits(joined);
    }
    shares[b] =
        static_cast<float>(static_cast<double>(n_active) / static_cast<double>(kUnionDraws) /
                           static_cast<double>(masks.n_ff()));
  }
  return shares;
}

// Bin 0 holds what counts as 0; the others divide each octave evenly.
size_t MagnitudeHistogram::BinOf(float value) {
  constexpr uint32_t kMagnitudeBits = 0x7FFFFFFF;
  constexpr uint32_t kFirst = static_cast<uint32_t>(kMinExponent + 127) << (23 - kShift);
  const uint32_t top = (std::bit_cast<uint32_t>(value) & kMagnitudeBits) >> kShift;
  return top < kFirst ? 0 : std::min<size_t>(kNumBins - 1, top - kFirst + 1);
}

float MagnitudeHistogram::LowerEdge(size_t bin) {
  constexpr uint32_t kFirst = static_cast<uint32_t>(kMinExponent + 127) << (23 - kShift);
  return bin == 0 ? 0 : std::bit_cast<float>((static_cast<uint32_t>(bin) - 1 + kFirst) << kShift);
}

void MagnitudeHistogram::Add(std::span<const float> values) {
  for (const float v : values) ++counts_[BinOf(v)];
  n_values_ += values.size();
}

float MagnitudeHistogram::Quantile(double q) const {
  if (n_values_ == 0) return 0;
  const double wanted = q * static_cast<double>(n_values_);
  double below = 0;
  for (size_t bin = 0; bin < kNumBins; ++bin) {
    const auto count = static_cast<double>(counts_[bin]);
    if (count > 0 && below + count >= wanted) {
      if (bin == 0) return 0;
      const auto within = static_cast<float>((wanted - below) / count);
      return LowerEdge(bin) + within * (LowerEdge(bin + 1) - LowerEdge(bin));
    }
    below += count;
  }
  return LowerEdge(kNumBins);
}

std::vector<float> MagnitudeHistogram::Quantiles() const {
  std::vector<float> quantiles(kNumQuantiles);
  for (size_t i = 0; i < kNumQuantiles; ++i) {
    quantiles[i] = Quantile(static_cast<double>(i) / static_cast<double>(kNumQuantiles - 1));
  }
  return quantiles;
}

}  // namespace thermocline::model
