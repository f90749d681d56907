// `thermocline plan`: reads, plans, explains and writes.
#pragma once

#include "base/status.h"
#include "tools/plan/flags.h"

namespace thermocline::tools {

// Prints to stdout, progress to stderr. Errors as ReadPlanSources and placement::MakePlan, and
// those of writing a file.
Status RunPlan(const PlanFlags& flags);

}  // namespace thermocline::tools
