// A helper's part of a stage: some neurons of its layers and some heads of their attention,
// computed when the lead sends x.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "placement/plan.h"
#include "proto/messages.h"
#include "worker/executor.h"
#include "worker/kv_cache.h"
#include "worker/layer_stack.h"
#include "worker/shard.h"

namespace thermocline::worker {

struct HelperOptions {
  model::LayerRange layers;  // of the stage
  FfnPlan ffn;               // is_helper
  int max_step_tokens = 512;
  placement::KvBudget kv;    // of the stage; of it the pages of the heads held here are taken
  Shard* prior = nullptr;    // of the plan before, see Shard::Load
  Tracer* tracer = nullptr;  // outlives the stage
};

// Owns the neurons' rows, keys and values of its heads, their programs and scratch. It knows
// nothing of sequences: which pages are whose the lead tells with each step, so that what is
// released or begins again needs no word here. Step thread only.
class HelperStage {
 public:
  // The source and the device outlive it. Errors as Stage::Create.
  static Result<std::unique_ptr<HelperStage>> Create(const ModelSource& source,
                                                     const HelperOptions& options,
                                                     kernels::Device& device,
                                                     const LoadProgressFn& on_progress);

  // Runs the branch of the layer that `part` names, whose x `exchange` has: its sum is sent, or y
  // of its heads. kDataLoss when no neuron of that layer is here, or no heads, there are more rows
  // than a step may have, or heads of a step whose rows were not told, told twice, or not as they
  // can be; else what `exchange` returns.
  Status Run(proto::Part part, PartExchange* exchange);

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
  // What was told of the rows of a step under way.
  struct Rows {
    bool is_used = false;
    StepId step;
    std::vector<proto::PartSequence> told;
    std::vector<int64_t> positions;
    std::vector<kernels::SequenceRows> sequences;
  };

  explicit HelperStage(HelperOptions options) : options_(std::move(options)) {}
  bool Has(const proto::Part& part) const;
  // Those of the part's step, taken from it where it tells them.
  Result<Rows*> RowsOf(proto::Part* part);
  Status Check(const proto::Part& part);
  Status CheckPages(const proto::PartSequence& sequence);
  Status RunHeads(proto::Part* part, int layer_in_stage);

  const HelperOptions options_;
  Shard shard_;
  std::optional<LayerStack> layers_;
  std::unique_ptr<Executor> executor_;
  std::optional<KvCache> kv_;  // with heads
  std::array<Rows, kMaxRuns> rows_;
  std::vector<bool> is_named_;  // of pages, in the step that is told
};

}  // namespace thermocline::worker
