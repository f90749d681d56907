#include "placement/solver/stage_estimate.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace thermocline::placement {
namespace {

constexpr double kNoFit = std::numeric_limits<double>::infinity();
constexpr int kSampleLayers = 6;   // the estimates rank plans; their stages are solved exactly
constexpr int kSampleLengths = 8;  // evenly from n_layer / 8 on
constexpr int kSampleRounds = 12;

uint64_t Bytes(const SplitProblem& problem) {
  uint64_t bytes = 0;
  for (const SplitLayer& layer : problem.layers) {
    bytes = std::accumulate(layer.block_bytes.begin(), layer.block_bytes.end(), bytes);
  }
  return bytes;
}

// Evenly chosen layers with the memory they would have among `length`.
SplitProblem Sample(const SplitProblem& whole, int length) {
  const int n = static_cast<int>(whole.layers.size());
  const int samples = std::min(kSampleLayers, length);
  SplitProblem sample;
  sample.devices = whole.devices;
  for (SplitDevice& device : sample.devices) {
    device.memory_bytes = static_cast<uint64_t>(static_cast<double>(device.memory_bytes) *
                                                samples / length);
  }
  for (int s = 0; s < samples; ++s) {
    sample.layers.push_back(whole.layers[(2 * s + 1) * n / (2 * samples)]);
  }
  return sample;
}

}  // namespace

std::vector<StageEstimate> EstimateGroup(const StageModel& model, const std::vector<int>& group,
                                         const SplitOptions& options) {
  const int n = model.n_layer();
  std::vector<StageEstimate> estimates(n + 1, {kNoFit, kNoFit});
  const std::optional<SplitProblem> whole = model.Problem(0, n, group);
  if (!whole || !CheckProblem(*whole).ok()) return estimates;
  SplitOptions quick = options;
  quick.certify = false;
  quick.max_rounds = kSampleRounds;
  int solved = 0;
  for (int step = 1; step <= kSampleLengths; ++step) {
    const int length = step * n / kSampleLengths;
    if (length == solved) continue;
    const SplitProblem sample = Sample(*whole, length);
    const Result<SplitSolution> solution = SolveSplit(sample, quick);
    if (!solution.ok()) break;
    const double layers = static_cast<double>(sample.layers.size());
    for (int k = solved + 1; k <= length; ++k) {
      estimates[k] = {solution->cost.seconds * k / layers,
                      solution->cost.bottleneck_s() * k / layers};
    }
    solved = length;
  }
  // Beyond, what memory holds in all, at a time that grows with the part that is short of it.
  uint64_t have = 0;
  for (const SplitDevice& device : whole->devices) have += device.memory_bytes;
  const double per_layer = static_cast<double>(Bytes(*whole)) / n;
  for (int k = solved + 1; k <= n && per_layer * k <= static_cast<double>(have); ++k) {
    const Result<SplitSolution> solution = SolveSplit(Sample(*whole, k), quick);
    if (!solution.ok()) break;
    const double scale = static_cast<double>(k) / std::min(kSampleLayers, k);
    estimates[k] = {solution->cost.seconds * scale, solution->cost.bottleneck_s() * scale};
  }
  return estimates;
}

double ClusterBound(const StageModel& model, SplitObjective objective) {
  std::optional<SplitProblem> all;
  for (int d = 0; d < model.n_devices(); ++d) {
    const std::optional<SplitProblem> one = model.Problem(0, model.n_layer(), {d});
    if (!one) continue;
    if (!all) {
      all = one;
      continue;
    }
    all->devices.push_back(one->devices[0]);
    for (size_t l = 0; l < all->layers.size(); ++l) {
      all->layers[l].seconds.push_back(one->layers[l].seconds[0]);
      all->layers[l].fixed_s = std::min(all->layers[l].fixed_s, one->layers[l].fixed_s);
    }
  }
  if (!all) return 0;
  // Stages have leads of their own, so of the bottleneck only the neurons' work is sure.
  const double latency = WorkBound(*all, {.latency = 1});
  for (SplitLayer& layer : all->layers) layer.fixed_s = 0;
  const double bottleneck = WorkBound(*all, {.latency = 0});
  return objective.latency * latency + (1 - objective.latency) * bottleneck;
}

}  // namespace thermocline::placement
