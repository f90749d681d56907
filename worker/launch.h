// Puts a worker together: MPI if it was launched by it, device, ports, mailbox, control loop.
#pragma once

#include "base/status.h"
#include "worker/control_loop.h"

namespace thermocline::worker {

// Runs a worker until it is told to stop. Under MPI the options' ticket and id come from rank 0.
Status RunWorker(WorkerOptions options, bool under_mpi, WorkerRequests& requests);

}  // namespace thermocline::worker
