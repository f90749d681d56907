// The work of `thermocline generate`: model, prompt, tokens, report.
#pragma once

#include "base/status.h"
#include "tools/generate/flags.h"

namespace thermocline::tools {

// Text goes to stdout as it is made; what it took goes to stderr. With --json, one object on
// stdout.
Status RunGenerate(const GenerateFlags& flags);

}  // namespace thermocline::tools
