// A whole model as one stage in this process, fed with windows of text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/status.h"
#include "kernels/device.h"
#include "model/graph.h"
#include "model/sampler.h"
#include "tools/profile/text_windows.h"
#include "worker/assignment.h"
#include "worker/executor.h"
#include "worker/stage.h"

namespace thermocline::tools {

struct RunnerOptions {
  int n_threads = 1;
  worker::FfnPlan ffn;
  int window_tokens = 256;                 // the longest window
  worker::OpObserver* observer = nullptr;  // outlives the runner
};

// Owns device and stage; one thread.
class WindowRunner {
 public:
  // Loads every layer of `model`, which outlives the runner. The codes of Stage::Create.
  static Result<std::unique_ptr<WindowRunner>> Create(const worker::LoadedModel& model,
                                                      const RunnerOptions& options);

  // Reads one window as a sequence of its own. With `score`, scores() then has one entry per token
  // but the first: how likely the model found it. kAborted by CheckInterrupted; the codes of
  // Stage::Run.
  Status Run(const Window& window, bool score);
  // Reads the window one token after the other, as generation does; `before_step` is called before
  // each.
  Status Decode(const Window& window, const std::function<void()>& before_step);
  std::span<const model::SampledToken> scores() const {
    return stage_->results().front().prompt_scores;
  }
  const kernels::Traffic& traffic() const { return device_->ops().traffic(); }

 private:
  WindowRunner() = default;
  // A batch with one entry and no tokens yet, which begins a sequence.
  proto::StepBatch BeginSequence(size_t n_tokens, bool score);

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<worker::Stage> stage_;
  uint64_t n_sequences_ = 0;
  uint64_t n_steps_ = 0;
};

}  // namespace thermocline::tools
