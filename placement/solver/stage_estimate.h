// What a kind of group would need for a number of layers, estimated from a sample of layers.
#pragma once

#include <optional>
#include <vector>

#include "placement/solver/stage_search.h"

namespace thermocline::placement {

struct StageEstimate {
  double seconds = 0;  // infinite: does not fit
  double bottleneck_s = 0;
};

// Where a stage stands in the model: the first has the embedding, the last the head.
struct StagePlace {
  bool is_first = false;
  bool is_last = false;
};

// Seconds and bottleneck of stages of 1 .. n_layer layers on this group; a pure function of model,
// group and place. Layers are sampled evenly and memory is shared among as many as the stage would
// have; lengths between those solved take the next longer one's time per layer. Of the place its
// memory counts, not the time of embedding and head; the only stage has all layers. Without a place
// the stage fits wherever it stands.
std::vector<StageEstimate> EstimateGroup(const StageModel& model, const std::vector<int>& group,
                                         const SplitOptions& options,
                                         std::optional<StagePlace> place = std::nullopt);

}  // namespace thermocline::placement
