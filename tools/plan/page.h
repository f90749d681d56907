// A plan as one HTML page without scripts or requests: the cluster, and who holds which neurons.
#pragma once

#include <string>

#include "placement/planner.h"
#include "tools/plan/inputs.h"

namespace thermocline::tools {

std::string PlanPage(const PlanSources& sources, const placement::PlannedModel& planned,
                     const std::string& explanation);

}  // namespace thermocline::tools
