// A helper's part of a stage: some neurons of its layers, computed when the lead sends x.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "kernels/device.h"
#include "proto/messages.h"
#include "worker/executor.h"
#include "worker/layer_stack.h"
#include "worker/shard.h"

namespace thermocline::worker {

struct HelperOptions {
  model::LayerRange layers;  // of the stage
  FfnPlan ffn;               // is_helper
  int max_step_tokens = 512;
  Shard* prior = nullptr;    // of the plan before, see Shard::Load
  Tracer* tracer = nullptr;  // outlives the stage
};

// Owns the neurons' rows, their programs and scratch. Step thread only.
class HelperStage {
 public:
  // The source and the device outlive it. Errors as Stage::Create.
  static Result<std::unique_ptr<HelperStage>> Create(const ModelSource& source,
                                                     const HelperOptions& options,
                                                     kernels::Device& device,
                                                     const LoadProgressFn& on_progress);

  // Runs the branch of the layer that `part` names, whose x `exchange` has: its sum is sent.
  // kDataLoss when no neuron of that layer is here or there are more rows than a step may have;
  // else what `exchange` returns.
  Status Run(const proto::Part& part, PartExchange* exchange);

  const LoadReport& load_report() const { return shard_.report(); }
  const Shard& shard() const { return shard_; }
  // Before the first run; outlives the stage.
  void set_firing(FiringCounter* firing) { executor_->set_firing(firing); }
  // The same, where it is a member of the stage's group of GPUs; its device waits through it.
  void set_group(StageGroup* group) { executor_->set_group(group); }
  // For another plan. Nothing can be run afterwards.
  Shard TakeShard() { return std::move(shard_); }
  // As Stage::FfnText.
  std::string FfnText() const { return layers_->ModesText(); }

 private:
  explicit HelperStage(HelperOptions options) : options_(std::move(options)) {}

  const HelperOptions options_;
  Shard shard_;
  std::optional<LayerStack> layers_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace thermocline::worker
