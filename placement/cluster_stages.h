// The cost model as the stage search asks it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "placement/batch_costs.h"
#include "placement/cost_model.h"
#include "placement/model_bytes.h"
#include "placement/overhead.h"
#include "placement/planner.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// Whether helpers' parts must pay for their messages. Not where a baseline is asked for, which has
// rules of its own.
enum class LeastParts : uint8_t { kKept, kIgnored };

// Workers as devices, in the cluster's order, for one size of the KV cache.
class ClusterStages final : public StageModel {
 public:
  // For steps of so many sequences; `costs` outlives it.
  ClusterStages(BatchCosts& costs, int64_t n_sequences, LeastParts least_parts, int64_t n_pages);

  int n_layer() const override { return inputs_.config.n_layer; }
  int n_devices() const override { return static_cast<int>(inputs_.cluster.workers.size()); }
  // The first worker of the same numbers, where its links are those of this one too.
  int DeviceType(int device) const override;
  std::optional<SplitProblem> Problem(int begin, int end,
                                      const std::vector<int>& group) const override;
  SplitProblem Times(int begin, int end, const std::vector<int>& group) const override;
  uint64_t MostMemory(int device) const override;
  uint64_t LeadBytes(int layer, int device) const override;
  uint64_t HelperBytes(int device) const override;
  double HopSeconds(int from, int to) const override {
    return costs_.HopSeconds(WorkerAt(from).id, WorkerAt(to).id);
  }

  model::LayerRange LayersOf(int begin, int end) const {
    return {begin, end, begin == 0, end == n_layer()};
  }
  const WorkerProfile& WorkerAt(int device) const {
    return inputs_.cluster.workers[static_cast<size_t>(device)];
  }
  // What a member holds besides the neurons that the solver gives it, with all that the process
  // needs; of a lead that shares, also the block that it gets in any case.
  uint64_t FixedBytes(const model::LayerRange& layers, const WorkerProfile& worker, bool is_lead,
                      size_t n_members) const;
  // The same as far as it leaves memory: what is left for neurons.
  uint64_t BytesLeft(const model::LayerRange& layers, const WorkerProfile& worker, bool is_lead,
                     size_t n_members) const;
  const OverheadModel& overhead() const { return overhead_; }
  uint64_t kv_bytes(const model::LayerRange& layers) const {
    return kv_layer_bytes_ * uint64_t(layers.end - layers.begin);
  }
  const ModelBytes& bytes() const { return bytes_; }
  const CostModel& costs() const { return costs_; }

 private:
  // What a lead holds besides neurons, as a sum: of every stage, and of the model's ends.
  struct LeadFixed {
    uint64_t stage = 0;
    uint64_t embed = 0, head = 0;
  };
  LeadFixed FixedOfLead(const WorkerProfile& lead) const;
  // What the narrowest neurons of a worker take of what others count for them.
  double LeastShare(const WorkerProfile& worker) const;
  Group GroupOf(const std::vector<int>& devices) const;
  bool IsAlike(int a, int b) const;

  const PlannerInputs& inputs_;
  const CostModel& costs_;
  const LeastParts least_parts_;
  const ModelBytes& bytes_;
  const OverheadModel& overhead_;
  const PairWires wires_;
  const uint64_t kv_layer_bytes_;
};

}  // namespace thermocline::placement
