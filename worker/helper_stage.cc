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
  std::unique_ptr<HelperStage> stage(new HelperStage(options));
  TC_ASSIGN_OR_RETURN(stage->shard_, Shard::Load(source, options.layers, options.ffn, device,
                                                 on_progress, options.prior));
  TC_ASSIGN_OR_RETURN(stage->layers_, LayerStack::Lower(source, options.layers, options.ffn,
                                                        stage->shard_, stage->clock_));
  const int64_t scratch_cols =
      std::max<int64_t>(stage->layers_->scratch_cols(), source.config.n_embd);
  TC_ASSIGN_OR_RETURN(Executor executor, Executor::Create(source.config, device, scratch_cols,
                                                          options.max_step_tokens));
  stage->executor_ = std::make_unique<Executor>(std::move(executor));
  return stage;
}

Status HelperStage::Run(int layer, int64_t n_rows, PartExchange* exchange) {
  const int at = layer - options_.layers.begin;
  const bool is_here = options_.layers.begin <= layer && layer < options_.layers.end &&
                       !options_.ffn.neurons[static_cast<size_t>(at)].empty();
  if (!is_here || n_rows < 1 || n_rows > options_.max_step_tokens) {
    return DataLoss(Str("the lead asks for what this helper does not have:", Kv("layer", layer),
                        Kv("rows", n_rows), Kv("max_rows", options_.max_step_tokens)));
  }
  executor_->set_exchange(exchange);
  return layers_->RunLayer(at, BatchRows{}, n_rows, executor_.get(), nullptr);
}

}  // namespace thermocline::worker
