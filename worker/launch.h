// Puts a worker together: MPI if it was launched by it, device, ports, mailbox, control loop.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "worker/control_loop.h"

namespace thermocline::worker {

// Runs a worker until it is told to stop. Under MPI the options' ticket and id come from rank 0.
Status RunWorker(WorkerOptions options, bool under_mpi, WorkerRequests& requests);

// The GPUs that a worker of this build can use here, by name ("cuda:1 NVIDIA H200"), in the order
// of their ordinals; of one that cannot be used a warning says why. Starts each of them for a
// moment.
std::vector<std::string> ListCudaDevices();

}  // namespace thermocline::worker
