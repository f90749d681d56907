// Links over MPI point-to-point messages; what mpi_runtime.cc needs of them.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "comm/link.h"

namespace thermocline::comm {

// kUnavailable with MPI's word for its error `code`; ok for MPI_SUCCESS.
Status MpiStatus(int code, std::string_view what);

// A frame that MPI still reads from or writes to: one message, or a head and its payload. MPI has
// no way to take back one that involves a dead rank, so its bytes must live as long as MPI runs.
struct MpiTransfer {
  std::vector<std::byte> bytes;    // the frame or its head
  std::vector<std::byte> payload;  // what comes apart
  MPI_Request requests[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};

  bool IsUnderWay() const {
    return requests[0] != MPI_REQUEST_NULL || requests[1] != MPI_REQUEST_NULL;
  }
  // Whether MPI is done with the bytes. Makes progress.
  Result<bool> Done();
};

// Keeps the transfers that outlived their link. Owned by the runtime, used by the thread that calls
// MPI.
class MpiParking {
 public:
  void Park(std::unique_ptr<MpiTransfer> transfer) { parked_.push_back(std::move(transfer)); }
  // Gives the transfers until `deadline` to finish. True when none is left.
  bool Drain(TimePoint deadline);

 private:
  std::vector<std::unique_ptr<MpiTransfer>> parked_;
};

// `comm` and `parking` outlive the port.
std::unique_ptr<DataPort> MakeMpiDataPort(MPI_Comm comm, MpiParking* parking);

}  // namespace thermocline::comm
