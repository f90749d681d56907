#include "tools/profile/window_runner.h"

#include <utility>

#include "base/units.h"
#include "tools/interrupt.h"

namespace thermocline::tools {

Result<std::unique_ptr<WindowRunner>> WindowRunner::Create(const worker::LoadedModel& model,
                                                           const RunnerOptions& options) {
  std::unique_ptr<WindowRunner> runner(new WindowRunner);
  TC_ASSIGN_OR_RETURN(runner->device_, kernels::MakeCpuDevice({options.n_threads}));
  worker::StageOptions stage;
  stage.layers = {0, model.config.n_layer, true, true};
  stage.ffn = options.ffn;
  stage.kv.dtype = DType::kF32;
  stage.kv.n_pages = static_cast<int64_t>(DivCeil(static_cast<uint64_t>(options.window_tokens),
                                                  static_cast<uint64_t>(stage.kv.page_tokens)));
  stage.max_step_tokens = options.window_tokens;
  stage.observer = options.observer;
  TC_ASSIGN_OR_RETURN(runner->stage_, worker::Stage::Create(model.source(), stage, *runner->device_,
                                                            nullptr, worker::IgnoreProgress));
  return runner;
}

proto::StepBatch WindowRunner::BeginSequence(size_t n_tokens, bool score) {
  proto::StepBatch batch;
  batch.step = StepId{n_steps_++};
  if (n_sequences_ > 0) batch.released = {SeqId{n_sequences_ - 1}};
  proto::StepEntry entry;
  entry.seq = SeqId{n_sequences_++};
  entry.start.emplace();
  entry.start->params.n_prompt_logprobs = score ? 0 : -1;
  entry.start->n_prompt = static_cast<int32_t>(n_tokens);
  batch.entries.push_back(std::move(entry));
  return batch;
}

Status WindowRunner::Run(const Window& window, bool score) {
  TC_RETURN_IF_ERROR(CheckInterrupted());
  proto::StepBatch batch = BeginSequence(window.size(), score);
  batch.entries.front().tokens = window;
  return stage_->Run(batch, TensorView{});
}

Status WindowRunner::Decode(const Window& window, const std::function<void()>& before_step) {
  proto::StepBatch batch = BeginSequence(window.size(), false);
  for (size_t i = 0; i < window.size(); ++i) {
    batch.entries.front().tokens = {window[i]};
    batch.entries.front().first_position = static_cast<int64_t>(i);
    TC_RETURN_IF_ERROR(CheckInterrupted());
    before_step();
    TC_RETURN_IF_ERROR(stage_->Run(batch, TensorView{}));
    batch.released.clear();
    batch.entries.front().start.reset();
    batch.step = StepId{n_steps_++};
  }
  return OkStatus();
}

}  // namespace thermocline::tools
