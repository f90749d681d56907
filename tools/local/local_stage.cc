#include "tools/local/local_stage.h"

#include <utility>

#include "base/log.h"
#include "base/units.h"

namespace thermocline::tools {

int64_t PagesFor(int64_t n_sequences, int64_t n_positions, int page_tokens) {
  const uint64_t pages =
      DivCeil(static_cast<uint64_t>(n_positions), static_cast<uint64_t>(page_tokens));
  return n_sequences * static_cast<int64_t>(pages);
}

Result<std::unique_ptr<LocalStage>> LocalStage::Load(const worker::LoadedModel& model,
                                                     const LocalStageOptions& options,
                                                     const worker::LoadProgressFn& on_progress) {
  std::unique_ptr<LocalStage> local(new LocalStage());
  TC_ASSIGN_OR_RETURN(auto chosen,
                      kernels::MakeDevice(options.device, {options.n_threads, options.cpus}));
  if (!chosen.note.empty()) LogInfo("tools", chosen.note);
  local->device_ = std::move(chosen.device);
  if (!options.logits_path.empty()) {
    TC_ASSIGN_OR_RETURN(local->logits_, worker::MakeLogitsFile(options.logits_path));
  }
  worker::StageOptions stage;
  stage.layers = {0, model.config.n_layer, true, true};
  stage.ffn.modes = options.ffn;
  stage.kv = options.kv;
  stage.max_step_tokens = options.max_step_tokens;
  stage.observer = options.observer;
  TC_ASSIGN_OR_RETURN(local->stage_, worker::Stage::Create(model.source(), stage, *local->device_,
                                                           local->logits_.get(), on_progress));
  return local;
}

}  // namespace thermocline::tools
