// The command line of `thermocline worker`.
#pragma once

#include <optional>

#include "worker/flags.h"

namespace thermocline::worker {

// Fills `flags`, or returns the exit code after --help (0) or a mistake (2), which has been printed
// in one line.
std::optional<int> ParseWorkerCommandLine(int argc, char** argv, WorkerFlags* flags);

}  // namespace thermocline::worker
