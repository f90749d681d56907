#include "placement/solver/stage_estimate.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

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
    device.memory_bytes =
        static_cast<uint64_t>(static_cast<double>(device.memory_bytes) * samples / length);
  }
  for (int s = 0; s < samples; ++s) {
    sample.layers.push_back(whole.layers[(2 * s + 1) * n / (2 * samples)]);
  }
  return sample;
}

// The most that a device can have for neurons: with one layer, leading or helping.
uint64_t MostMemory(const StageModel& model, int device) {
  const int middle = model.n_layer() / 2;
  uint64_t most = 0;
  if (const auto lead = model.Problem(middle, middle + 1, {device})) {
    most = lead->devices[0].memory_bytes;
  }
  if (model.n_devices() < 2) return most;
  if (const auto helper = model.Problem(middle, middle + 1, {device == 0 ? 1 : 0, device})) {
    most = std::max(most, helper->devices[1].memory_bytes);
  }
  return most;
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
  std::vector<double> fixed(model.n_layer(), kNoFit);
  for (int d = 0; d < model.n_devices(); ++d) {
    std::optional<SplitProblem> one = model.Problem(0, model.n_layer(), {d});
    if (!one) return 0;
    for (size_t l = 0; l < fixed.size(); ++l) {
      fixed[l] = std::min(fixed[l], one->layers[l].fixed_s);
      one->layers[l].fixed_s = 0;
      one->layers[l].min_blocks.clear();
    }
    one->devices = {SplitDevice{.memory_bytes = MostMemory(model, d)}};
    if (!all) {
      all = std::move(one);
      continue;
    }
    all->devices.push_back(one->devices[0]);
    for (size_t l = 0; l < fixed.size(); ++l) {
      all->layers[l].seconds.push_back(std::move(one->layers[l].seconds[0]));
    }
  }
  // Stages have leads of their own, so of the bottleneck only the neurons' work is sure.
  const double alone = objective.latency * std::accumulate(fixed.begin(), fixed.end(), 0.0);
  const Result<SplitSolution> relaxed = SolveSplit(*all, {.objective = objective});
  return alone + (relaxed.ok() ? relaxed->lower_bound : WorkBound(*all, objective));
}

}  // namespace thermocline::placement
