#include "tools/profile/count_activity.h"

#include <algorithm>

#include "base/units.h"
#include "tools/profile/activity_collector.h"
#include "tools/profile/progress.h"
#include "tools/profile/window_runner.h"

namespace thermocline::tools {
namespace {

// Masks for the union curves: enough of them that 64 draws of 64 tokens seldom repeat.
constexpr uint64_t kMaxMasks = 4096;
constexpr uint64_t kMaskBytes = 128 * kMiB;

CollectorOptions CollectorOf(const model::ModelConfig& config, size_t n_windows,
                             const std::vector<float>& thresholds) {
  const uint64_t mask_bytes =
      model::ActivityMasks::BytesPerToken(config.n_ff) * static_cast<uint64_t>(config.n_layer);
  const uint64_t n_masks = std::min(kMaxMasks, kMaskBytes / std::max<uint64_t>(1, mask_bytes));
  CollectorOptions options;
  options.active_thresholds = thresholds;
  options.masks_per_window =
      static_cast<int>(std::max<uint64_t>(1, n_masks / std::max<size_t>(1, n_windows)));
  return options;
}

}  // namespace

Result<std::vector<model::LayerActivity>> CountActivity(const worker::LoadedModel& model,
                                                        const TextWindows& text,
                                                        const std::vector<float>& thresholds,
                                                        const CountOptions& options) {
  ActivityCollector collector(model.config,
                              CollectorOf(model.config, text.windows.size(), thresholds));
  RunnerOptions runner_options;
  runner_options.n_threads = options.n_threads;
  runner_options.window_tokens = options.window_tokens;
  runner_options.observer = &collector;
  TC_ASSIGN_OR_RETURN(const auto runner, WindowRunner::Create(model, runner_options));
  Progress progress("counting", "tokens", text.n_tokens(), options.quiet);
  for (const Window& window : text.windows) {
    TC_RETURN_IF_ERROR(runner->Run(window, false));
    TC_RETURN_IF_ERROR(collector.status());
    collector.NextWindow();
    progress.Advance(window.size());
  }
  return collector.Take(options.seed);
}

}  // namespace thermocline::tools
