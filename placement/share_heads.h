// Which members of a stage should hold heads of its attention: a last step of planning.
#pragma once

#include <cstddef>

#include "placement/batch_costs.h"
#include "placement/planner.h"

namespace thermocline::placement {

// Gives KV heads to the helpers of a plan that are in a group of cards with their lead, stage by
// stage: to all of them, since the group moves heads only where each member has some, and where
// cards reach each other. Where the plan's value gains by it and each has room for their keys and
// values beside what it holds. What it would be worth over the hosts nobody has measured. Numbers
// of heads go by the rates at which members read memory. Neurons, pages and the number of batches
// stay; reasons say what was shared. The plan is valid, and what is known of it its speed; so they
// are afterwards.
void ShareHeads(BatchCosts& costs, PlannedModel* planned);
// The same of stage `i` alone; the other stages stay as they are.
void ShareHeadsOf(BatchCosts& costs, size_t i, PlannedModel* planned);

}  // namespace thermocline::placement
