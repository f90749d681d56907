// What the offline programs end with.
#pragma once

#include "base/status.h"

namespace thermocline::tools {

// 0; 2: the input is wrong; 128 plus its number: a signal ended the work (130 after Ctrl-C, as
// shells have it); 1: every other failure.
int ExitCodeOf(const Status& status);

}  // namespace thermocline::tools
