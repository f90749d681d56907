// What a worker needs besides weights and KV: the process itself, scratch for the rows of a step,
// and the frames on its links. Counted from the op graph that it lowers.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/graph.h"
#include "model/weights.h"
#include "placement/plan.h"

namespace thermocline::placement {

// A worker without a stage: code, libraries (MPI's among them), heap and thread stacks. Measured
// with Open MPI 4.1 on x86-64: 24 to 29 MiB; 1 to 2 MiB more after a few hundred requests.
inline constexpr uint64_t kRuntimeBytes = 30 * kMiB;

// The peak of a worker that has seen a step of `max_step_tokens` rows. Immutable. The model
// outlives it.
class OverheadModel {
 public:
  OverheadModel(const model::ModelConfig& config, const model::WeightIndex& weights,
                model::FfnModes ffn, int max_step_tokens);

  // Of members of a valid plan's stage.
  uint64_t OfLead(const StagePlan& stage) const;
  uint64_t OfHelper(const StagePlan& stage, const HelperPlan& helper) const;
  // Whatever the split: no less than the above of any stage of `layers`.
  uint64_t MostOfLead(const model::LayerRange& layers, int n_helpers) const;
  uint64_t MostOfHelper(int n_layers) const;
  // What each helper adds to its lead's at least: frames on their way to it and back.
  uint64_t LeastPerHelper() const { return OfFrames({.out = 1, .sums_in = 1}); }

 private:
  // What ops of a graph need for a step.
  struct Scratch {
    int64_t row_bytes = 0;  // per row
    int64_t bytes = 0;      // whatever the rows
    void Widen(const Scratch& other);
  };
  enum class Role : uint8_t { kLead, kHelper };
  Scratch ScratchOf(const model::Graph& graph) const;
  // The largest of the modes that the layer may run.
  Scratch ScratchOfLayer(int layer, Role role, const model::FfnShare& share,
                         const model::HeadShare& heads = {}) const;
  uint64_t Sum(const Scratch& scratch, const model::LayerRange& layers, int n_helpers) const;
  // Messages of n_rows that are on their way at once.
  struct Frames {
    int in = 0, out = 0;            // activations
    int sums_in = 0, sums_out = 0;  // of neuron rows
  };
  // Of y of heads beyond what frames of sums have room for, on the way to the lead.
  uint64_t OfHeadFrames(const HeadRange& heads) const;
  uint64_t OfFrames(const Frames& frames) const;
  uint64_t OfTables(int n_layers) const;

  const model::ModelConfig& config_;
  const model::WeightIndex& weights_;
  const model::FfnModes ffn_;
  const uint64_t n_rows_;
  Scratch alone_, shared_, helper_;  // of the layer that needs most
  Scratch embed_, head_;
};

}  // namespace thermocline::placement
