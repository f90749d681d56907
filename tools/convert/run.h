// The work of `thermocline convert`: source, plan, tensors, table.
#pragma once

#include "base/status.h"
#include "tools/convert/flags.h"

namespace thermocline::tools {

// The table goes to stdout, progress and notes to stderr. The output file appears whole or not at
// all.
Status RunConvert(const ConvertFlags& flags);

}  // namespace thermocline::tools
