// The command line of `thermocline profile`.
#pragma once

#include "tools/profile/flags.h"

namespace thermocline::tools {

// Fills `flags`. -1: go on; otherwise the program ends with that code: 0 after --help, 2 after a
// message about what is wrong.
int ParseProfileCommandLine(int argc, char** argv, ProfileFlags* flags);

}  // namespace thermocline::tools
