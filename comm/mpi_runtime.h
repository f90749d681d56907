// MPI as a launcher and as a wire: it starts the ranks and exchanges addresses; afterwards only
// point-to-point messages with deadlines are used, because a collective that involves a dead rank
// hangs for ever.
#pragma once

#include <memory>
#include <string>

#include "base/ids.h"
#include "base/status.h"
#include "comm/link.h"

namespace thermocline::comm {

// Initialised by main and finalised by its destructor; at most one per process. Broadcast belongs
// to the main thread at start-up; afterwards MPI is called by the thread that owns the data port.
class MpiRuntime {
 public:
  virtual ~MpiRuntime() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Rank 0's bytes, at every rank. Start-up only.
  virtual Result<std::string> BroadcastFromRankZero(const std::string& bytes) = 0;
  // Point-to-point over MPI; a peer's address is "mpi:<rank>".
  virtual std::unique_ptr<DataPort> MakeDataPort() = 0;
  // The destructor then does not finalise MPI, which is a collective: after a rank was lost it
  // would wait for ever. The launcher takes such an end for a failure and ends every other rank.
  virtual void Abandon() = 0;
};

// kUnavailable when built without MPI, or when MPI cannot start.
Result<std::unique_ptr<MpiRuntime>> StartMpi();

}  // namespace thermocline::comm
