// The work of `thermocline synth`: options, weights, table.
#pragma once

#include "base/status.h"
#include "tools/synth/flags.h"

namespace thermocline::tools {

// The table of densities goes to stdout, progress to stderr. The output file appears whole or not
// at all.
Status RunSynth(const SynthFlags& flags);

}  // namespace thermocline::tools
