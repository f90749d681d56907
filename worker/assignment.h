// A worker's part of a plan, ready to load: the message, the local settings, and the model opened.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/cluster_key.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/neuron_order.h"
#include "model/range_reader.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "proto/messages.h"
#include "worker/shard.h"

namespace thermocline::worker {

struct Assignment {
  proto::AssignPlan message;
  WorkerId self;
  comm::ClusterKey key;  // for the bulk channel
  std::string cache_dir;
  model::NeuronRows rows = model::NeuronRows::kAsIs;  // of its neurons
  uint64_t peer = 0;                              // this worker's incarnation, for the bulk channel
  std::vector<proto::NeuronTable> neuron_tables;  // of this epoch

  const placement::StagePlan& stage() const {
    return message.plan.stages[static_cast<size_t>(message.stage)];
  }
  bool is_helper() const { return message.helper >= 0; }
  // How its own links travel: of a helper the one to its lead; of a lead those to its neighbours,
  // while there are such, and to its helpers.
  placement::LinkWay WayToLead() const;
  placement::LinkWay WayToPrevious() const;
  placement::LinkWay WayToNext() const { return message.plan.WayOf(stage().to_next); }
  placement::LinkWay WayToHelper(size_t helper) const;
  std::vector<placement::LinkWay> Ways() const;
  // Whether a helper of the stage is in a group of GPUs with its lead; this worker is.
  bool IsInGroup(int helper) const;
  bool is_in_group() const;
  // Whether NCCL joins its GPU with others, in a group or along links between stages.
  bool meets_gpus() const;
  // Of the lead in the group, or of a helper that is in it.
  int group_rank() const;
  // By layer of the stage: whether all members of its group have neurons there, so that the group
  // adds their sums; others' go over links. No entry: there is no group.
  std::vector<bool> GroupLayers() const;
  // By layer of the stage: the helpers whose sums come over links.
  std::vector<std::vector<size_t>> LinkHelpers() const;
  // Whether all members of its group have heads, so that these come by the group.
  bool HasHeadsInGroup() const;
  // The helpers whose heads come over links.
  std::vector<size_t> LinkHeads() const;
  // The heads held here, and who else has some.
  model::HeadShare heads() const;
  // The layers' neurons held here, and who else has some; and its heads.
  FfnPlan ffn() const;
};

// An opened model. The header is parsed; no weight has been read.
struct LoadedModel {
  std::unique_ptr<model::RangeReader> reader;
  model::ModelConfig config;
  model::WeightIndex weights;
  model::Sparsity sparsity;                              // one entry per layer, whatever is known
  std::unique_ptr<model::RangeReader> predictor_reader;  // of a sparsity file; null without one
  // From a profile beside the model, or what the coordinator says since.
  model::NeuronOrder neuron_order;
  std::vector<model::ByteRange> fetched;  // over the bulk channel, or verified by it
  uint64_t fetched_bytes = 0;             // for the plan at hand

  ModelSource source() const {
    return {config, weights, *reader, predictor_reader.get(), &sparsity, &neuron_order};
  }
};

// Opens and parses a model file, and takes the order of its neurons from M.profile.gguf when that
// lies beside M.gguf; kInvalidArgument when it is the profile of another model, the codes of
// ReadSparsityProfile when it cannot be read. Errors name the path.
Result<LoadedModel> OpenModel(const std::string& path);

// Without a look at a profile, for programs that replace it or only read the model's shape.
Result<LoadedModel> OpenModelInFileOrder(const std::string& path);

// Takes predictors, thresholds and measured losses from a sparsity file, which must be the model's.
// Errors name its path.
Status AttachSparsityFile(const std::string& path, LoadedModel* model);

// Opens the assigned model: the file on this host, checked against the coordinator's fingerprint,
// or the cached copy with this stage's ranges fetched first. `on_progress` counts fetched bytes;
// `stop` ends connecting for them with kAborted.
Result<LoadedModel> OpenAssignedModel(const Assignment& assignment, const Clock& clock,
                                      const std::atomic<bool>& stop,
                                      const LoadProgressFn& on_progress);

// kDataLoss names a member of the group that the stage does not have, what the group lacks, or a
// GPU to meet in a stage that is not there.
Status CheckGroup(const proto::AssignPlan& message);

// kDataLoss names what a stage's neurons and heads contradict: the layers, one another, or the
// model.
Status CheckNeurons(const placement::StagePlan& stage, const model::ModelConfig& config);

// Gives a model that was opened for one plan to the next: neurons stand as the new assignment says,
// and ranges that were not there are fetched. Errors as OpenAssignedModel, and kDataLoss for neuron
// tables that are not of the model or fewer than were announced.
Status ReassignModel(const Assignment& assignment, const Clock& clock,
                     const std::atomic<bool>& stop, const LoadProgressFn& on_progress,
                     LoadedModel* model);

}  // namespace thermocline::worker
