#include "tools/profile/predictor_samples.h"

#include <utility>

#include "base/str.h"
#include "tools/profile/activity_collector.h"
#include "tools/profile/progress.h"
#include "tools/profile/window_runner.h"

namespace thermocline::tools {
namespace {

// Step thread only; lives in CollectSamples.
class SampleCollector final : public worker::OpObserver {
 public:
  SampleCollector(const model::ModelConfig& config, int begin, int end,
                  const std::vector<float>& thresholds, uint64_t n_tokens)
      : config_(config), begin_(begin), thresholds_(thresholds) {
    samples_.resize(static_cast<size_t>(end - begin));
    for (LayerSamples& layer : samples_) {
      layer.n_embd = config.n_embd;
      layer.inputs.reserve(n_tokens * static_cast<uint64_t>(config.n_embd));
      layer.active = model::ActivityMasks(config.n_ff);
    }
    magnitudes_.resize(static_cast<size_t>(config.n_ff));
  }

  void OnOp(const worker::LoweredOp& op, TensorView /*input*/, TensorView output) override {
    const int index = op.key.layer - begin_;
    if (index < 0 || index >= static_cast<int>(samples_.size())) return;
    LayerSamples& layer = samples_[static_cast<size_t>(index)];
    if (op.key.role == model::WeightRole::kFfnNorm) {
      for (int64_t row = 0; row < output.n_rows; ++row) {
        const float* const values = output.f32_row(row);
        layer.inputs.insert(layer.inputs.end(), values, values + output.n_cols);
      }
    }
    if (IsBeforeActivation(config_, op)) AddMasks(op.key.layer, output, &layer);
  }

  void NextWindow() { ++window_; }
  std::vector<LayerSamples> Take() { return std::move(samples_); }

 private:
  void AddMasks(int layer, TensorView values, LayerSamples* samples) {
    const float threshold = thresholds_.empty() ? 0 : thresholds_[static_cast<size_t>(layer)];
    for (int64_t row = 0; row < values.n_rows; ++row) {
      const std::span<const float> before(values.f32_row(row), static_cast<size_t>(values.n_cols));
      Magnitudes(config_.activation, before, magnitudes_);
      samples->active.Add(magnitudes_, threshold, window_);
    }
  }

  const model::ModelConfig& config_;
  const int begin_;
  const std::vector<float>& thresholds_;
  std::vector<LayerSamples> samples_;
  std::vector<float> magnitudes_;
  int window_ = 0;
};

}  // namespace

Result<std::vector<LayerSamples>> CollectSamples(const worker::LoadedModel& model,
                                                 const TextWindows& text, int begin, int end,
                                                 const SampleOptions& options) {
  SampleCollector collector(model.config, begin, end, options.active_thresholds, text.n_tokens());
  RunnerOptions runner_options;
  runner_options.n_threads = options.n_threads;
  runner_options.window_tokens = options.window_tokens;
  runner_options.observer = &collector;
  TC_ASSIGN_OR_RETURN(const auto runner, WindowRunner::Create(model, runner_options));
  Progress progress(Str("samples of layers ", begin, " to ", end - 1), "tokens", text.n_tokens(),
                    options.quiet);
  for (const Window& window : text.windows) {
    TC_RETURN_IF_ERROR(runner->Run(window, false));
    collector.NextWindow();
    progress.Advance(window.size());
  }
  return collector.Take();
}

}  // namespace thermocline::tools
