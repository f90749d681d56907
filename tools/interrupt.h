// Ctrl-C as an error value, so that half-written files go the way of every other failure.
#pragma once

#include "base/status.h"

namespace thermocline::tools {

// From now on SIGINT, SIGTERM and SIGHUP are only noted, unless the process was started to ignore
// them; each ends the process at once when it comes again. Call it before threads are started.
void CatchInterrupts();

// The signal that was noted; 0: none. Thread-safe.
int InterruptSignal();

// kAborted once a signal was noted. Long loops ask at least every second or so. Thread-safe.
Status CheckInterrupted();

}  // namespace thermocline::tools
