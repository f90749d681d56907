// What a worker needs besides weights and KV: the process itself, scratch for the rows of a step,
// and the frames on its links; on a GPU, what of that lies in the card's memory. Counted from the
// op graph that it lowers.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/graph.h"
#include "model/weights.h"
#include "placement/plan.h"
#include "placement/profile.h"

namespace thermocline::placement {

// A worker without a stage: code, libraries (MPI's among them), heap and thread stacks. Measured
// with Open MPI 4.1 on x86-64: 24 to 29 MiB; 1 to 2 MiB more after a few hundred requests.
inline constexpr uint64_t kRuntimeBytes = 30 * kMiB;

// Whose memory is planned: of a worker that computes on a GPU the card's, whose process, frames and
// tables lie in the host's.
enum class Holder : uint8_t { kProcess, kCard };
Holder HolderOf(const WorkerProfile& worker);

// A card's own buffer of a probe of its links (worker::kLeastProbeBytes).
inline constexpr uint64_t kCardHopBytes = 512 << 10;

// The peak of a worker that has seen a step of `max_step_tokens` rows. Immutable. The model
// outlives it.
class OverheadModel {
 public:
  // With `most_pages` of keys and values, which a card has lists of.
  OverheadModel(const model::ModelConfig& config, const model::WeightIndex& weights,
                model::FfnModes ffn, int max_step_tokens, int64_t most_pages);

  // Of members of a valid plan's stage.
  uint64_t OfLead(const StagePlan& stage, Holder holder) const;
  uint64_t OfHelper(const StagePlan& stage, const HelperPlan& helper, Holder holder) const;
  // Whatever the split: no less than the above of any stage of `layers`.
  uint64_t MostOfLead(const model::LayerRange& layers, int n_helpers, Holder holder) const;
  uint64_t MostOfHelper(int n_layers, Holder holder) const;
  // What each helper adds to its lead's at least: frames on their way to it and back.
  uint64_t LeastPerHelper(Holder holder) const {
    return holder == Holder::kCard ? 0 : OfFrames({.out = 1, .sums_in = 1});
  }

 private:
  // What ops of a graph need for a step.
  struct Scratch {
    int64_t row_bytes = 0;  // per row
    int64_t bytes = 0;      // whatever the rows
    int64_t n_cols = 0;     // of all slots, as a card has them for each row
    void Widen(const Scratch& other);
  };
  enum class Role : uint8_t { kLead, kHelper };
  Scratch ScratchOf(const model::Graph& graph) const;
  // The largest of the modes that the layer may run.
  Scratch ScratchOfLayer(int layer, Role role, const model::FfnShare& share,
                         const model::HeadShare& heads = {}) const;
  uint64_t Sum(const Scratch& scratch, const model::LayerRange& layers, int n_helpers) const;
  uint64_t SumOfHelper(const Scratch& scratch, int n_layers) const;
  // Of either on a card; of a helper without the ends of its stage.
  uint64_t SumOfCard(const Scratch& scratch, const model::LayerRange& layers) const;
  void CountWeights();
  uint64_t OfLists() const;
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
  const uint64_t most_pages_;
  uint64_t most_weights_ = 0, end_weights_ = 0;  // in number: of a layer, of no layer
  Scratch alone_, shared_, helper_;              // of the layer that needs most
  Scratch embed_, head_;
};

}  // namespace thermocline::placement
