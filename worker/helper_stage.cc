#include "worker/helper_stage.h"

#include <algorithm>
#include <utility>

#include "base/str.h"

namespace thermocline::worker {

Result<std::unique_ptr<HelperStage>> HelperStage::Create(const ModelSource& source,
                                                         const HelperOptions& options,
                                                         kernels::Device& device,
                                                         const LoadProgressFn& on_progress) {
  TC_RETURN_IF_ERROR(CheckModes(source, options.ffn.modes));
  TC_RETURN_IF_ERROR(device.Prepare({.max_rows = options.max_step_tokens}));
  std::unique_ptr<HelperStage> stage(new HelperStage(options));
  TC_ASSIGN_OR_RETURN(stage->shard_, Shard::Load(source, options.layers, options.ffn, device,
                                                 on_progress, options.prior));
  TC_ASSIGN_OR_RETURN(stage->layers_,
                      LayerStack::Lower(source, options.layers, options.ffn, stage->shard_));
  const ExecutorOptions scratch{
      .scratch_cols = std::max<int64_t>(stage->layers_->scratch_cols(), source.config.n_embd),
      .max_rows = options.max_step_tokens,
      .n_members = 2};  // the lead and this one
  TC_ASSIGN_OR_RETURN(stage->executor_, Executor::Create(source.config, device, scratch));
  stage->executor_->set_tracer(options.tracer, options.layers.begin);
  return stage;
}

Status HelperStage::Run(const proto::Part& part, PartExchange* exchange) {
  const int at = part.layer - options_.layers.begin;
  const bool is_here = options_.layers.begin <= part.layer && part.layer < options_.layers.end &&
                       !options_.ffn.neurons[static_cast<size_t>(at)].empty();
  if (!is_here || part.n_rows < 1 || part.n_rows > options_.max_step_tokens) {
    return DataLoss(
        Str("the lead asks for what this helper does not have:", Kv("layer", part.layer),
            Kv("rows", part.n_rows), Kv("max_rows", options_.max_step_tokens)));
  }
  executor_->set_exchange(exchange);
  const int run = executor_->Open(BatchRows{}, part.n_rows, part.step);
  TC_RETURN_IF_ERROR(layers_->RunLayer(at, run, executor_.get()));
  executor_->Close();
  return OkStatus();
}

}  // namespace thermocline::worker
