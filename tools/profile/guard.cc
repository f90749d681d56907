#include "tools/profile/guard.h"

#include <algorithm>

#include "base/clock.h"
#include "base/str.h"
#include "model/ffn_policy.h"

namespace thermocline::tools {
namespace {

// Enough for shares of a layer to settle to about a percent.
constexpr size_t kTimedTokens = 128;

// Attributes the time between two calls to the later one's op. Step thread only.
class PredictorTimer final : public worker::OpObserver {
 public:
  explicit PredictorTimer(int n_layers) : layers_(static_cast<size_t>(n_layers)) {}

  // Before each step: what lies between steps belongs to no op.
  void BeginStep() {
    EndStep();
    last_ = clock_.Now();
  }

  void OnOp(const worker::LoweredOp& op, TensorView, TensorView) override {
    const double seconds = Seconds(clock_.Now() - last_);
    if (op.layer_in_stage != model::kNoLayer) {
      Layer& layer = layers_[static_cast<size_t>(op.layer_in_stage)];
      layer.step_s += seconds;
      if (worker::IsOfPredictor(op)) layer.predictor_s += seconds;
    }
    last_ = clock_.Now();
  }

  // The median over the steps: one in which the system ran somebody else says nothing.
  std::vector<double> Shares() {
    EndStep();
    std::vector<double> medians;
    for (Layer& layer : layers_) {
      const auto middle =
          layer.shares.begin() + static_cast<std::ptrdiff_t>(layer.shares.size() / 2);
      std::nth_element(layer.shares.begin(), middle, layer.shares.end());
      medians.push_back(layer.shares.empty() ? 0 : *middle);
    }
    return medians;
  }

 private:
  struct Layer {
    double step_s = 0, predictor_s = 0;  // of the step being run
    std::vector<double> shares;          // one per step
  };

  void EndStep() {
    for (Layer& layer : layers_) {
      if (layer.step_s > 0) layer.shares.push_back(layer.predictor_s / layer.step_s);
      layer.step_s = layer.predictor_s = 0;
    }
  }

  SteadyClock clock_;
  TimePoint last_;
  std::vector<Layer> layers_;
};

RunnerOptions RunnerOf(const GuardOptions& options, model::FfnMode mode) {
  RunnerOptions runner;
  runner.n_threads = options.n_threads;
  runner.window_tokens = options.window_tokens;
  runner.ffn.modes = mode;
  return runner;
}

}  // namespace

std::vector<model::FfnMode> AvailableModes(const worker::LoadedModel& model) {
  std::vector<model::FfnMode> modes;
  for (const model::FfnMode mode : model::kFfnModes) {
    if (model::CheckFfnMode(model.config, model.sparsity, mode).ok()) modes.push_back(mode);
  }
  return modes;
}

Result<model::GuardRecord> MeasureModes(const worker::LoadedModel& model, const TextWindows& text,
                                        const std::vector<model::FfnMode>& modes,
                                        const GuardOptions& options) {
  model::GuardRecord record;
  record.allowed_loss = options.allowed_loss;
  std::optional<Perplexity> dense;
  for (const model::FfnMode mode : modes) {
    TC_ASSIGN_OR_RETURN(
        const Perplexity measured,
        MeasurePerplexity(model, text, RunnerOf(options, mode),
                          Str("perplexity of ", model::FfnModeName(mode)), options.quiet));
    if (!dense) dense = measured;
    record.n_tokens = measured.n_tokens;
    record.results.push_back(
        {std::string(model::FfnModeName(mode)), measured.value, LossAgainst(*dense, measured)});
  }
  return record;
}

Result<std::vector<double>> PredictorTimeShares(const worker::LoadedModel& model,
                                                const TextWindows& text,
                                                const GuardOptions& options) {
  PredictorTimer timer(model.config.n_layer);
  RunnerOptions runner_options = RunnerOf(options, model::FfnMode::kPredicted);
  runner_options.observer = &timer;
  TC_ASSIGN_OR_RETURN(const auto runner, WindowRunner::Create(model, runner_options));
  size_t n_timed = 0;
  for (const Window& window : text.windows) {
    if (n_timed >= kTimedTokens) break;
    TC_RETURN_IF_ERROR(runner->Decode(window, [&] { timer.BeginStep(); }));
    n_timed += window.size();
  }
  return timer.Shares();
}

std::optional<float> LossOf(const model::GuardRecord& guard, model::FfnMode mode) {
  for (const model::GuardResult& result : guard.results) {
    if (result.mode == model::FfnModeName(mode)) return static_cast<float>(result.loss);
  }
  return std::nullopt;
}

}  // namespace thermocline::tools
