// A plan in words: who does what, why, what it is expected to do, and why some have nothing to do.
#pragma once

#include <string>

#include "coordinator/plan_task.h"

namespace thermocline::coordinator {

// One line: what joins the workers, as measured or assumed; "" for one worker.
std::string LinksText(const placement::ClusterProfile& cluster);
// One line: what is being planned, for what.
std::string PlanningText(const PlanJob& job);
// Stages, helpers and their reasons; the expected speed.
std::string PlanText(const PlanOutcome& planned);
// Who is spare and why, a line; "" when everybody works.
std::string SparesText(const PlanOutcome& planned);

}  // namespace thermocline::coordinator
