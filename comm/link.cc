#include "comm/link.h"

namespace thermocline::comm {

std::string_view TransportName(Transport transport) {
  switch (transport) {
    case Transport::kMpi:
      return "mpi";
    case Transport::kZmq:
      return "zmq";
    case Transport::kLoopback:
      return "loopback";
  }
  return "unknown";
}

}  // namespace thermocline::comm
