#include "placement/solver/stage_estimate.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

namespace thermocline::placement {
namespace {

constexpr double kNoFit = std::numeric_limits<double>::infinity();
constexpr int kSampleLayers = 6;   // the estimates rank plans; their stages are solved exactly
constexpr int kSampleLengths = 8;  // evenly from n_layer / 8 on
constexpr int kSampleRounds = 12;

// A stage of `length` layers from the middle of the model, with the memory that one at `place` has,
// or, without a place, the least of any: what the embedding, the head and the frames to and from
// other stages leave. Nullopt: it does not fit.
std::optional<SplitProblem> StageOf(const StageModel& model, const std::vector<int>& group,
                                    int length, std::optional<StagePlace> place) {
  const int n = model.n_layer();
  const int middle = (n - length) / 2;
  std::optional<SplitProblem> stage = model.Problem(middle, middle + length, group);
  if (!stage) return std::nullopt;
  std::vector<int> begins;
  if (!place || !(place->is_first || place->is_last)) begins.push_back(middle);
  if (!place || place->is_first) begins.push_back(0);
  if ((!place || place->is_last) && length < n) begins.push_back(n - length);
  for (SplitDevice& device : stage->devices) device.memory_bytes = UINT64_MAX;
  for (const int begin : begins) {
    const std::optional<SplitProblem> there = model.Problem(begin, begin + length, group);
    if (!there) return std::nullopt;
    for (size_t d = 0; d < group.size(); ++d) {
      uint64_t& memory = stage->devices[d].memory_bytes;
      memory = std::min(memory, there->devices[d].memory_bytes);
    }
  }
  return stage;
}

// Evenly chosen layers of a stage, with their share of its memory.
SplitProblem Sample(const SplitProblem& stage) {
  const int length = static_cast<int>(stage.layers.size());
  const int samples = std::min(kSampleLayers, length);
  SplitProblem sample;
  sample.devices = stage.devices;
  for (SplitDevice& device : sample.devices) {
    device.memory_bytes = static_cast<uint64_t>(
        static_cast<unsigned __int128>(device.memory_bytes) * samples / length);
  }
  for (int s = 0; s < samples; ++s) {
    sample.layers.push_back(stage.layers[(2 * s + 1) * length / (2 * samples)]);
  }
  return sample;
}

// Of a stage of `length` layers, by some of them. Nullopt: it does not fit.
std::optional<StageEstimate> EstimateStage(const StageModel& model, const std::vector<int>& group,
                                           int length, const SplitOptions& options,
                                           std::optional<StagePlace> place) {
  const std::optional<SplitProblem> stage = StageOf(model, group, length, place);
  if (!stage || !CheckProblem(*stage).ok()) return std::nullopt;
  const SplitProblem sample = Sample(*stage);
  const Result<SplitSolution> solution = SolveSplit(sample, options);
  if (!solution.ok()) return std::nullopt;
  const double scale = static_cast<double>(length) / static_cast<double>(sample.layers.size());
  return StageEstimate{solution->cost.seconds * scale, solution->cost.bottleneck_s() * scale};
}

}  // namespace

std::vector<StageEstimate> EstimateGroup(const StageModel& model, const std::vector<int>& group,
                                         const SplitOptions& options,
                                         std::optional<StagePlace> place) {
  const int n = model.n_layer();
  std::vector<StageEstimate> estimates(n + 1, {kNoFit, kNoFit});
  SplitOptions quick = options;
  quick.certify = false;
  quick.max_rounds = kSampleRounds;
  const auto of = [&](int length) { return EstimateStage(model, group, length, quick, place); };
  if (place && place->is_first && place->is_last) {
    estimates[n] = of(n).value_or(estimates[n]);
    return estimates;
  }
  int solved = 0;
  for (int step = 1; step <= kSampleLengths; ++step) {
    const int length = step * n / kSampleLengths;
    if (length == solved) continue;
    const std::optional<StageEstimate> longest = of(length);
    if (!longest) break;
    for (int k = solved + 1; k <= length; ++k) {
      const double share = static_cast<double>(k) / length;
      estimates[k] = {longest->seconds * share, longest->bottleneck_s * share};
    }
    solved = length;
  }
  // Beyond, layer by layer until memory ends.
  for (int k = solved + 1; k <= n; ++k) {
    const std::optional<StageEstimate> estimate = of(k);
    if (!estimate) break;
    estimates[k] = *estimate;
  }
  return estimates;
}

}  // namespace thermocline::placement
