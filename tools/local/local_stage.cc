#include "tools/local/local_stage.h"

#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "worker/device_memory.h"
#include "worker/step_graphs.h"

namespace thermocline::tools {
namespace {

// What a worker without a budget keeps free for graphs of steps; before weights are loaded.
Result<uint64_t> GraphBytesOf(kernels::Device& device) {
  if (device.recorder() == nullptr) return uint64_t{0};
  TC_ASSIGN_OR_RETURN(const uint64_t offered_bytes, worker::MemoryToOffer(device, {}));
  return worker::GraphBytes(offered_bytes);
}

}  // namespace

int64_t PagesFor(int64_t n_sequences, int64_t n_positions, int page_tokens) {
  const uint64_t pages =
      DivCeil(static_cast<uint64_t>(n_positions), static_cast<uint64_t>(page_tokens));
  return n_sequences * static_cast<int64_t>(pages);
}

Result<std::unique_ptr<LocalStage>> LocalStage::Load(const worker::LoadedModel& model,
                                                     const LocalStageOptions& options,
                                                     const worker::LoadProgressFn& on_progress) {
  TC_ASSIGN_OR_RETURN(auto chosen,
                      kernels::MakeDevice(options.device, {options.n_threads, options.cpus}));
  if (!chosen.note.empty()) LogInfo("tools", chosen.note);
  return LoadOn(std::move(chosen.device), model, options, on_progress);
}

Result<std::unique_ptr<LocalStage>> LocalStage::LoadOn(std::unique_ptr<kernels::Device> device,
                                                       const worker::LoadedModel& model,
                                                       const LocalStageOptions& options,
                                                       const worker::LoadProgressFn& on_progress) {
  std::unique_ptr<LocalStage> local(new LocalStage());
  local->device_ = std::move(device);
  if (!options.logits_path.empty()) {
    TC_ASSIGN_OR_RETURN(local->logits_, worker::MakeLogitsFile(options.logits_path));
  }
  worker::StageOptions stage;
  stage.layers = {0, model.config.n_layer, true, true};
  stage.ffn.modes = options.ffn;
  stage.kv = options.kv;
  stage.max_step_tokens = options.max_step_tokens;
  stage.observer = options.observer;
  if (options.uses_graphs) {
    TC_ASSIGN_OR_RETURN(stage.graph_bytes, GraphBytesOf(*local->device_));
  }
  TC_ASSIGN_OR_RETURN(local->stage_, worker::Stage::Create(model.source(), stage, *local->device_,
                                                           local->logits_.get(), on_progress));
  return local;
}

int64_t LocalStage::n_replays() const {
  const worker::StepGraphs* const graphs = stage_->graphs();
  return graphs == nullptr ? 0 : graphs->n_replays();
}

}  // namespace thermocline::tools
