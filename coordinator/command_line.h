// The command line of `thermocline serve`.
#pragma once

#include <optional>

#include "coordinator/flags.h"

namespace thermocline::coordinator {

// Fills `flags`, or returns the exit code after --help (0) or a mistake (2), which has been printed
// in one line.
std::optional<int> ParseServeCommandLine(int argc, char** argv, ServeFlags* flags);

}  // namespace thermocline::coordinator
