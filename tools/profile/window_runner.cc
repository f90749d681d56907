#include "tools/profile/window_runner.h"

#include <utility>

#include "base/units.h"

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

Status WindowRunner::Run(const Window& window, bool score) {
  proto::StepBatch batch;
  batch.step = StepId{n_runs_};
  if (n_runs_ > 0) batch.released = {SeqId{n_runs_ - 1}};
  proto::StepEntry entry;
  entry.seq = SeqId{n_runs_};
  entry.tokens = window;
  entry.start.emplace();
  entry.start->params.n_prompt_logprobs = score ? 0 : -1;
  entry.start->n_prompt = static_cast<int32_t>(window.size());
  batch.entries.push_back(std::move(entry));
  ++n_runs_;
  return stage_->Run(batch, TensorView{});
}

}  // namespace thermocline::tools
