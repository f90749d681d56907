// The control plane: messages between the coordinator and any worker. Peers may come and go; every
// wait has a deadline. A mailbox knows no message's meaning.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "comm/cluster_key.h"
#include "comm/frame.h"

namespace thermocline::comm {

// One incarnation of a peer; chosen at random by the connecting side. A restarted worker is a new
// peer. kServerPeer addresses the side that bound.
using PeerId = Id<struct PeerIdTag>;
inline constexpr PeerId kServerPeer{0};

// The largest control payload: a plan, or one piece of a bulk transfer. Far below a data frame's
// limit, because whoever holds the key can make the coordinator take this much memory per message.
inline constexpr uint64_t kMaxMailboxPayloadBytes = uint64_t{64} << 20;

struct Received {
  PeerId from;
  Frame frame;
};

// Send and Wake are thread-safe; Receive belongs to one thread.
class Mailbox {
 public:
  virtual ~Mailbox() = default;
  // Queues the frame; never waits. kUnavailable: no such peer is connected; kResourceExhausted: the
  // peer's queue is full; kInvalidArgument: over a frame limit.
  virtual Status Send(PeerId to, const FrameView& frame) = 0;
  // The next message, or nullopt at the deadline or after Wake. kUnavailable at the connecting side
  // once the connection is lost and everything that arrived was delivered; it does not come back.
  virtual Result<std::optional<Received>> Receive(TimePoint deadline) = 0;
  // Makes a waiting or the next Receive return nullopt early.
  virtual void Wake() = 0;
  // Where peers connect: "tcp://10.0.0.1:40123" for each address of this host; empty when
  // this side connected.
  virtual std::vector<std::string> endpoints() const = 0;
};

struct ZmqMailboxOptions {
  ClusterKey key;
  // Server: "tcp://127.0.0.1:*" or "tcp://0.0.0.0:*" (any free port) or a fixed port.
  // Client: candidates; the first that accepts a connection within connect_timeout is used.
  std::vector<std::string> endpoints;
  PeerId self = kServerPeer;  // client only: its incarnation, not 0
  Duration connect_timeout = std::chrono::seconds(5);
  // Client only: connecting ends with kAborted soon after this is set; null: only at its timeout.
  const std::atomic<bool>* stop = nullptr;
  int queue_frames = 1024;  // per peer; full is kResourceExhausted
};

// ZeroMQ ROUTER with CURVE. kUnavailable names the endpoint that cannot be bound.
Result<std::unique_ptr<Mailbox>> BindZmqMailbox(const ZmqMailboxOptions& options);
// ZeroMQ DEALER with CURVE. kUnavailable names the endpoints tried and why each failed.
Result<std::unique_ptr<Mailbox>> ConnectZmqMailbox(const ZmqMailboxOptions& options);

}  // namespace thermocline::comm
