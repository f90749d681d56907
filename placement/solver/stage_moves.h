// Local search over stages: who leads, who helps whom, and how many layers each stage has.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "placement/solver/stage_sketch.h"

namespace thermocline::placement {

// Layers [begin, end) on a group, the lead first.
struct Cut {
  int begin = 0;
  int end = 0;
  std::vector<int> group;
  friend auto operator<=>(const Cut&, const Cut&) = default;
};

// Stages without layers, in their order: groups of devices, the lead first.
using Groups = std::vector<std::vector<int>>;

// Moves one device or layer count after the other, as the sketch sees it, until nothing is better:
// devices from stage to stage or aside, two devices for one another whatever they do, stages into
// others or apart. Layers follow: each stage gets as many as are best. By the objective of one
// size of batches. Empty: no layers were found for `start`.
std::vector<Cut> ImproveStages(StageSketch& sketch, SplitObjective objective, const Groups& start,
                               const std::atomic<bool>* stop);

}  // namespace thermocline::placement
