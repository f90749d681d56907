// A stage that the search chose, as a plan has it.
#pragma once

#include "placement/cluster_stages.h"
#include "placement/plan.h"

namespace thermocline::placement {

// With the reasons for it, and the bytes of every member but those of keys and values. A lead
// without neurons of a layer is given a block of a helper's.
StagePlan ToStage(const StageChoice& choice, const ClusterStages& model);

}  // namespace thermocline::placement
