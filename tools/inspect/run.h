// The work of `thermocline inspect`: a file's header, added up, and a roofline of this machine.
#pragma once

#include "base/status.h"
#include "tools/inspect/flags.h"

namespace thermocline::tools {

// Prints the report. Errors are those of a file that cannot be read as GGUF; a model that only
// cannot be run is shown as far as its header goes.
Status RunInspect(const InspectFlags& flags);

}  // namespace thermocline::tools
