// What stands in for mpi_runtime.cc and mpi_link.cc in a build without MPI.
#include "comm/mpi_runtime.h"

namespace thermocline::comm {

Result<std::unique_ptr<MpiRuntime>> StartMpi() {
  return Unavailable("this build has no MPI: configure with WITH_MPI=ON and an MPI installed");
}

}  // namespace thermocline::comm
