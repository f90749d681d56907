// From model, activation profile and cluster to seconds: what each layer costs each worker, whole
// or by neurons, and what a plan would do.
//
// Every cost is derived from the op graph that workers lower (placement/op_load.h); formulas as in
// DESIGN section 4: a layer takes its attention, then the slowest of the parts of its FFN.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "placement/neuron_heat.h"
#include "placement/op_load.h"
#include "placement/op_time.h"
#include "placement/plan.h"
#include "placement/plan_links.h"
#include "placement/profile.h"
#include "placement/solver/split_problem.h"

namespace thermocline::placement {

// What costs are asked for; all of it outlives the model.
struct CostInputs {
  const model::ModelConfig& config;
  const model::WeightIndex& weights;
  const model::Sparsity* sparsity = nullptr;  // null: nothing is known
  const std::vector<NeuronHeat>& heats;       // by layer
  const ClusterProfile& cluster;              // with a link for every pair that may be joined
  model::FfnModes ffn;                        // of which each layer runs the fastest
  StepShape step;                             // of decoding
  PairWires wires;                            // of activations
};

// The members of a stage: the lead, then its helpers.
using Group = std::vector<WorkerId>;
// By member and layer of the stage: which neurons it holds. Together all of a layer, each once.
using HeldNeurons = std::vector<std::vector<NeuronRange>>;
// A problem whose blocks are what each member holds, and the split that gives them to it.
struct HeldSplit {
  SplitProblem problem;
  Split split;
};

// Costs of one model on one cluster for one kind of step. Immutable, so thread-safe.
class CostModel {
 public:
  explicit CostModel(const CostInputs& inputs);

  // The FFN mode that the layer is taken to run: the fastest of those it can.
  model::FfnMode ModeOf(int layer) const { return alone_.layers[static_cast<size_t>(layer)].mode; }

  // One worker that runs the layer alone, its neurons in rows or as the file has them.
  double LayerSeconds(WorkerId worker, int layer) const;
  // The embedding, and the head with the choice of a token for every sequence.
  double EmbedSeconds(WorkerId worker) const;
  double HeadSeconds(WorkerId worker) const;
  // x from one stage to the next.
  double HopSeconds(WorkerId from, WorkerId to) const;

  // The FFNs of `layers` over a group; memory_bytes of the devices is for the caller to fill in.
  //
  // Helpers are given no neurons of a layer or at least what pays for their messages: an inequality
  // as PowerInfer's fourth. What a helper takes of the lead's thread, sending to it and adding what
  // comes back, is lost whatever its part, so the part has to spare the lead more than that. The
  // rest of the round trip is not part of it: where the lead has other work meanwhile it costs
  // nothing, and where it has none the layer's time says so.
  SplitProblem ProblemOf(const Group& group, const model::LayerRange& layers) const;
  // The same for members whose neurons are known: for plans that nobody solved.
  HeldSplit ProblemOf(const Group& group, const model::LayerRange& layers,
                      const HeldNeurons& held) const;
  // What comes before the FFN of one layer, where the members hold `heads` (the lead's empty: all
  // of them): how long it takes, and what each member computes of it. In heads_cost.cc.
  struct MemberHeads {
    HeadRange held;
    bool by_group = false;  // of cards (CardGroup::has_heads); else by the hosts' links
  };
  struct Attention {
    double seconds = 0;
    std::vector<double> busy_s;  // by member
  };
  Attention AttentionOf(const Group& group, int layer, const std::vector<MemberHeads>& heads) const;
  // Blocks of the problem, as neurons.
  NeuronRange NeuronsOf(const BlockRange& blocks) const;
  int n_blocks() const { return n_blocks_; }
  int64_t block_neurons() const { return block_neurons_; }

 private:
  struct LayerLoads {
    model::FfnMode mode = model::FfnMode::kDense;
    std::vector<OpLoad> before_ffn;
    std::vector<OpLoad> ffn;
    std::vector<NeuronShare> blocks;  // sums over each block
    NeuronShare all;
    // The blocks lie one after the other in memory, so that each has rows as dense as its neurons
    // fire; else they are strewn over all of it.
    bool in_heat_order = false;
    // Of rows that are read among those of `block`.
    double DensityIn(const NeuronShare& block) const;
  };
  // The layers as members of a stage hold them, and what that costs.
  struct Form {
    std::vector<LayerLoads> layers;
    // By place in the cluster and layer: the blocks from the first to one, and what a part costs
    // whatever neurons it has.
    std::vector<std::vector<std::vector<double>>> block_seconds;
    std::vector<std::vector<double>> part_seconds;
    std::vector<std::vector<uint64_t>> block_bytes;  // by layer
  };
  // A lead alone has its neurons in the file's order, and ffn_down as the file has it where no mode
  // needs rows.
  const Form& FormOf(const Group& group) const { return group.size() == 1 ? alone_ : shared_; }
  LayerLoads LoadsOfLayer(int layer, model::FfnMode mode, bool is_shared) const;
  double SecondsOf(const std::vector<OpLoad>& ops, const WorkerSpeed& speed,
                   const NeuronShare& share, double density) const;
  size_t IndexOf(WorkerId worker) const;
  const WorkerSpeed& SpeedOf(WorkerId worker) const { return speeds_[IndexOf(worker)]; }
  // What is known of the layer's neurons where the mode skips some; else all are needed.
  NeuronHeat HeatIn(int layer, model::FfnMode mode) const;
  void AddLeastParts(const std::vector<NeuronShare>& blocks,
                     const std::vector<SplitDevice>& devices, SplitLayer* layer) const;
  std::vector<double> BlockSeconds(const LayerLoads& layer, const std::vector<NeuronShare>& blocks,
                                   const WorkerSpeed& speed) const;
  std::vector<SplitDevice> DevicesOf(const Group& group, const model::LayerRange& layers) const;
  void Tabulate(Form* form) const;
  void TabulateBytes();
  // What a message holds: x, or what a helper has summed.
  enum class Payload : uint8_t { kActivations, kSums };
  // What a message costs, by the hosts or from card to card.
  struct Way {
    double message_s = 0;  // of the sender's queue
    double latency_s = 0;
    double bytes_per_s = 0;
    DType wire = DType::kF32;
  };
  Way WayByHosts(WorkerId from, WorkerId to) const;
  std::optional<Way> WayByCards(WorkerId from, WorkerId to) const;
  // Members on cards that reach each other are taken for a group.
  Way WayInGroup(WorkerId from, WorkerId to) const;
  double TransferSeconds(const Way& way, Payload payload) const;
  double MessageSeconds(const Way& way) const;

  CostInputs inputs_;
  int64_t block_neurons_ = 0;
  int n_blocks_ = 0;
  std::vector<WorkerSpeed> speeds_;  // by place in the cluster
  Form alone_;                       // each layer in the mode that is fastest there
  Form shared_;                      // in the same modes
  std::vector<OpLoad> embed_, head_;
};

}  // namespace thermocline::placement
