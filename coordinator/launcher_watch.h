// What is done about an mpirun that does not end.
#pragma once

#include "base/clock.h"

namespace thermocline::coordinator {

// To be called by rank 0 when it is about to fail. mpirun then ends the other ranks and itself, but
// where a host is unreachable it waits for that host's daemon for a quarter of an hour. If this
// process's parent is an mpirun that is still there after `patience`, it is killed, which ends what
// it has on every host that is reachable. Does nothing for other parents.
void KillStuckLauncherAfter(Duration patience);

}  // namespace thermocline::coordinator
