// The data plane: ordered frames between two workers that the plan joined. A link knows no frame's
// meaning; every wait has a deadline.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "comm/frame.h"

namespace thermocline::comm {

enum class Transport : uint8_t { kMpi, kZmq, kLoopback };
std::string_view TransportName(Transport transport);

struct LinkCaps {
  Transport transport = Transport::kZmq;
  bool device_memory = false;  // payloads may lie in GPU memory
  bool authenticated = false;  // peers prove that they hold the cluster key
};

struct LinkStats {
  uint64_t frames_sent = 0, bytes_sent = 0;
  uint64_t frames_received = 0, bytes_received = 0;
};

// Both directions between this worker and one peer. Owned by the step thread, which alone calls it.
class Link {
 public:
  virtual ~Link() = default;
  virtual LinkCaps caps() const = 0;
  virtual WorkerId peer() const = 0;
  virtual LinkStats stats() const = 0;
  // Returns when `frame` may be reused. kDeadlineExceeded when the peer took nothing in time;
  // kUnavailable when the connection is known to be gone; kInvalidArgument over a frame limit.
  virtual Status Send(const FrameView& frame, TimePoint deadline) = 0;
  // The next frame in the order it was sent. kDeadlineExceeded; kDataLoss for a malformed frame.
  virtual Status Receive(Frame* frame, TimePoint deadline) = 0;
};

// One worker's end of every link of one transport: created once, told to peers by address.
// Step thread only, like the links it opens; it outlives them.
class DataPort {
 public:
  virtual ~DataPort() = default;
  virtual Transport transport() const = 0;
  // What a peer needs to reach this port: "mpi:2", or the tcp endpoints of a ZeroMQ socket joined
  // by commas.
  virtual std::string address() const = 0;
  // kUnavailable when none of the peer's addresses accepts a connection.
  virtual Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) = 0;
};

struct ShapingOptions {
  Duration latency{0};        // added to each frame, one way
  double bytes_per_s = 0;     // 0 = as fast as the link
  double drop_rate = 0;       // share of frames lost
  uint64_t seed = 0;          // of the drops
};

// Decorates a link with latency, rate and faults by seed; for experiments and tests.
std::unique_ptr<Link> ShapeLink(std::unique_ptr<Link> link, const ShapingOptions& options);

}  // namespace thermocline::comm
