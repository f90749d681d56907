// The data plane: ordered frames between two workers that the plan joined. A link knows no frame's
// meaning; every wait has a deadline.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "comm/frame.h"

namespace thermocline::comm {

enum class Transport : uint8_t { kMpi, kZmq, kLoopback };
std::string_view TransportName(Transport transport);

// How many frames a sender may have under way to a receiver that takes none; then Send waits. The
// pipeline has two or three per neighbour in flight, so this bounds memory and never speed.
inline constexpr int kLinkWindowFrames = 32;

struct LinkStats {
  uint64_t frames_sent = 0, bytes_sent = 0;
  uint64_t frames_received = 0, bytes_received = 0;
};

// Both directions between this worker and one peer. Owned by the step thread, which alone calls it.
class Link {
 public:
  virtual ~Link() = default;
  virtual WorkerId peer() const = 0;
  virtual LinkStats stats() const = 0;
  // Returns when `frame` may be reused, which is before the peer has it. kDeadlineExceeded when the
  // window is full and the peer took nothing in time; nothing was sent then, and the same frame may
  // be sent again. kUnavailable when the connection is known to be gone; kInvalidArgument over a
  // frame limit.
  virtual Status Send(const FrameView& frame, TimePoint deadline) = 0;
  // The next frame in the order it was sent. kDeadlineExceeded; kDataLoss for a malformed frame;
  // kUnavailable when the connection is known to be gone and everything that arrived was delivered.
  virtual Status Receive(Frame* frame, TimePoint deadline) = 0;
  // The same if it has arrived, else false; what a waiting thread asks again and again. Errors as
  // Receive, but for the deadline.
  virtual Result<bool> TryReceive(Frame* frame) {
    const Status received = Receive(frame, TimePoint{});
    if (received.code() == StatusCode::kDeadlineExceeded) return false;
    if (!received.ok()) return received;
    return true;
  }
  // Moves on the frames that Send left under way, without waiting; true when none is left. Whoever
  // sends and then waits for something else than this port's links must call it until then, since a
  // transport may move frames only inside its calls.
  virtual Result<bool> Flush() { return true; }
};

// One worker's end of every link of one transport: created once, told to peers by address.
// One thread at a time, like the links it opens (a probe's, later the step thread); it outlives
// them.
class DataPort {
 public:
  virtual ~DataPort() = default;
  virtual Transport transport() const = 0;
  // What a peer needs to reach this port: "mpi:2", or the tcp endpoints of a ZeroMQ socket joined
  // by commas.
  virtual std::string address() const = 0;
  // The id under which peers open their link to this worker, where it was not known at the start;
  // before the first Open. Only transports whose frames carry it care.
  virtual void SetSelf(WorkerId) {}
  // kUnavailable when none of the peer's addresses accepts a connection.
  virtual Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) = 0;
  // The same, but a port that has to wait for its peer gives up after `patience`.
  virtual Result<std::unique_ptr<Link>> OpenWithin(WorkerId peer, const std::string& peer_address,
                                                   Duration /*patience*/) {
    return Open(peer, peer_address);
  }
};

struct ShapingOptions {
  Duration latency{0};     // added to each frame, one way
  double bytes_per_s = 0;  // 0 = as fast as the link
  double drop_rate = 0;    // share of frames lost
  uint64_t seed = 0;       // of the drops
};

// Decorates a link with latency, rate and faults by seed; for experiments and tests. Both ends of a
// link are decorated or none: the sender writes into the header when the frame becomes visible, the
// receiver holds it until then. That is exact where the ends share a clock (one machine, also
// across network namespaces); elsewhere a frame is held for the receiver's own `latency` after it
// was seen.
std::unique_ptr<Link> ShapeLink(std::unique_ptr<Link> link, const ShapingOptions& options);
// All links that the port opens.
std::unique_ptr<DataPort> ShapePort(std::unique_ptr<DataPort> port, const ShapingOptions& options);
// "latency=200us,bandwidth=1.25GB/s,drop=0.001,seed=7", each at most once: latency in us, ms or s,
// bandwidth in MB/s or GB/s (1e6 and 1e9 bytes). kInvalidArgument names what it does not know.
Result<ShapingOptions> ParseShaping(std::string_view text);

}  // namespace thermocline::comm
