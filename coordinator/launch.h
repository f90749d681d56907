// Puts a coordinator together: model, mailboxes, engine, HTTP, workers; and ends it in order.
#pragma once

#include <csignal>
#include <functional>
#include <string>

#include "base/status.h"
#include "coordinator/flags.h"

namespace thermocline::coordinator {

// What signals ask for; written by handlers, read by the main thread.
struct StopRequests {
  volatile std::sig_atomic_t stop = 0;   // SIGINT, SIGTERM: end now
  volatile std::sig_atomic_t drain = 0;  // SIGUSR1: finish what runs, then end
};

// Serves until asked to stop or something is lost. `own_folder` is where the worker program lies
// beside this one. An error is told to `report` when it happens, before the service ends in order,
// which may take seconds (or be cut short by mpirun); and returned.
Status RunCoordinator(const ServeFlags& flags, const ServeConfig& config,
                      const std::string& own_folder, const StopRequests& requests,
                      const std::function<void(const Status&)>& report);

}  // namespace thermocline::coordinator
