// Which members of a stage should hold heads of its attention: a last step of planning.
#pragma once

#include "placement/batch_costs.h"
#include "placement/planner.h"

namespace thermocline::placement {

// Gives KV heads to helpers that the plan has anyway and that are on cards in a group with their
// lead, stage by stage, where its value gains by it and each helper has room for their keys and
// values beside what it holds. What it would be worth over the hosts nobody has measured. Numbers
// of heads go by the rates at which members read memory. Neurons, pages and the number of batches
// stay. The plan is valid, and what is known of it its speed; so they are afterwards.
void ShareHeads(BatchCosts& costs, PlannedModel* planned);

}  // namespace thermocline::placement
