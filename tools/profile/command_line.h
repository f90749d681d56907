// The command line of `thermocline profile`.
#pragma once

#include "tools/profile/flags.h"

namespace CLI {
class App;
}

namespace thermocline::tools {

// Tells `app` what the program does and which options fill `flags`, which outlives it.
void DescribeProfile(CLI::App* app, ProfileFlags* flags);

}  // namespace thermocline::tools
