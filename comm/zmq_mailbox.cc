// The control plane over ZeroMQ: one ROUTER at the coordinator, a DEALER at each worker.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/str.h"
#include "comm/endpoints.h"
#include "comm/mailbox.h"
#include "comm/wake_event.h"
#include "comm/zmq_dealer.h"
#include "comm/zmq_router.h"
#include "comm/zmq_socket.h"

namespace thermocline::comm {
namespace {

constexpr char kPeerRoutingKind = 'P';

WireOptions MailboxWire(int queue_frames) {
  return {.queue_frames = queue_frames,
          .max_message_bytes = kFramePrefixBytes + kMaxHeaderBytes + kMaxMailboxPayloadBytes,
          .heartbeat = true};
}

Status CheckMailboxLimits(const FrameView& frame) {
  TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
  if (frame.payload.size() <= kMaxMailboxPayloadBytes) return OkStatus();
  return InvalidArgument(
      Str("mailbox payload over its limit:", Kv("payload_bytes", frame.payload.size()),
          Kv("limit", kMaxMailboxPayloadBytes)));
}

// The peer whose routing id this is; kServerPeer for an id that no mailbox of ours has.
PeerId PeerOf(std::string_view routing_id) {
  PeerId peer;
  if (routing_id.size() == 1 + sizeof(peer.value) && routing_id.front() == kPeerRoutingKind) {
    std::memcpy(&peer.value, routing_id.data() + 1, sizeof(peer.value));
  }
  return peer;
}

// What both sides share: a doorbell, and a socket that a mutex guards. libzmq allows a socket to be
// used by several threads one after the other, so Send goes out from whichever thread calls it, at
// once and with an exact answer, while Receive waits outside the lock.
class ZmqMailbox : public Mailbox {
 public:
  Result<std::optional<Received>> Receive(TimePoint deadline) final {
    while (true) {
      // Taken before the socket is read: a wake-up after this point ends the wait below.
      wake_.Silence();
      if (woken_.exchange(false)) return std::optional<Received>();
      TC_ASSIGN_OR_RETURN(std::optional<Received> received, TryReceive());
      if (received.has_value()) return received;
      if (SteadyClock().Now() >= deadline) return std::optional<Received>();
      Wait(wake_.fd(), deadline);
    }
  }

  void Wake() final {
    woken_ = true;
    wake_.Ring();
  }

 protected:
  explicit ZmqMailbox(WakeEvent wake) : wake_(std::move(wake)) {}

  // The next well-formed message, if one is there.
  virtual Result<std::optional<Received>> TryReceive() = 0;
  virtual void Wait(int wake_fd, TimePoint deadline) = 0;

  // After a Send, which may have taken the news of a message or a loss from the descriptor on which
  // the receiving thread waits: that thread is rung.
  void RingIf(bool news) {
    if (news) wake_.Ring();
  }

  // Drops and counts what cannot be decoded.
  bool Decode(const ZmqMessage& message, PeerId from, Frame* frame) {
    const Status status = DecodeFrame(message.bytes(), frame);
    if (status.ok()) return true;
    ++n_malformed_;
    LogWarn("comm", Str("message dropped: ", status.message(), Kv("peer", from),
                        Kv("dropped", n_malformed_)));
    return false;
  }

 private:
  WakeEvent wake_;
  std::atomic<bool> woken_ = false;
  uint64_t n_malformed_ = 0;
};

// The side that bound. The receiving thread and senders share `router_` under the mutex.
class ZmqServerMailbox final : public ZmqMailbox {
 public:
  static Result<std::unique_ptr<Mailbox>> Bind(const ZmqMailboxOptions& options) {
    if (options.endpoints.size() != 1) {
      return InvalidArgument(
          Str("a mailbox listens on one endpoint:", Kv("given", options.endpoints.size())));
    }
    TC_ASSIGN_OR_RETURN(WakeEvent wake, WakeEvent::Create());
    TC_ASSIGN_OR_RETURN(auto context, ZmqContext::Create());
    TC_ASSIGN_OR_RETURN(ZmqSocket router, BindRouter(*context, options.key, options.endpoints[0],
                                                     MailboxWire(options.queue_frames)));
    TC_ASSIGN_OR_RETURN(const TcpEndpoint bound, ParseTcpEndpoint(router.last_endpoint()));
    return std::unique_ptr<Mailbox>(new ZmqServerMailbox(
        std::move(wake), std::move(context), std::move(router), ReachableEndpoints(bound)));
  }

  Status Send(PeerId to, const FrameView& frame) override {
    TC_RETURN_IF_ERROR(CheckMailboxLimits(frame));
    ZmqMessage message = MessageOf(frame);
    const MutexLock lock(mutex_);
    const ZmqIo io = router_.TrySend(RoutingId(kPeerRoutingKind, to.value), std::move(message));
    RingIf(router_.readable());
    switch (io) {
      case ZmqIo::kDone:
        return OkStatus();
      case ZmqIo::kWouldBlock:
        return ResourceExhausted(Str("peer's queue is full:", Kv("peer", to)));
      case ZmqIo::kNoPeer:
        return Unavailable(Str("peer is not connected:", Kv("peer", to)));
      case ZmqIo::kFailed:
        break;
    }
    return ZmqError("cannot send");
  }

  std::vector<std::string> endpoints() const override { return endpoints_; }

 private:
  ZmqServerMailbox(WakeEvent wake, std::unique_ptr<ZmqContext> context, ZmqSocket router,
                   std::vector<std::string> endpoints)
      : ZmqMailbox(std::move(wake)),
        context_(std::move(context)),
        endpoints_(std::move(endpoints)),
        router_fd_(router.fd()),
        router_(std::move(router)) {}

  Result<std::optional<Received>> TryReceive() override {
    const MutexLock lock(mutex_);
    ZmqMessage message;
    std::string routing_id;
    while (true) {
      const ZmqIo io = router_.TryReceive(&routing_id, &message);
      if (io == ZmqIo::kFailed) return ZmqError("cannot receive");
      if (io != ZmqIo::kDone) return std::optional<Received>();
      Received received{PeerOf(routing_id), {}};
      if (received.from != kServerPeer && Decode(message, received.from, &received.frame)) {
        return std::optional<Received>(std::move(received));
      }
    }
  }

  void Wait(int wake_fd, TimePoint deadline) override {
    WaitReadable({router_fd_, wake_fd}, deadline);
  }

  const std::unique_ptr<ZmqContext> context_;  // outlives the socket
  const std::vector<std::string> endpoints_;
  const int router_fd_;
  Mutex mutex_;
  ZmqSocket router_ GUARDED_BY(mutex_);
};

// The side that connected. A lost connection ends the mailbox: a worker that comes back is a new
// incarnation with a new mailbox.
class ZmqClientMailbox final : public ZmqMailbox {
 public:
  static Result<std::unique_ptr<Mailbox>> Connect(const ZmqMailboxOptions& options) {
    if (options.self == kServerPeer) {
      return InvalidArgument("a connecting mailbox needs a peer id other than 0");
    }
    TC_ASSIGN_OR_RETURN(WakeEvent wake, WakeEvent::Create());
    TC_ASSIGN_OR_RETURN(auto context, ZmqContext::Create());
    TC_ASSIGN_OR_RETURN(
        ZmqDealer dealer,
        ZmqDealer::Connect(*context, {.key = options.key,
                                      .routing_id = RoutingId(kPeerRoutingKind, options.self.value),
                                      .endpoints = options.endpoints,
                                      .connect_timeout = options.connect_timeout,
                                      .stop = options.stop,
                                      .wire = MailboxWire(options.queue_frames)}));
    return std::unique_ptr<Mailbox>(
        new ZmqClientMailbox(std::move(wake), std::move(context), std::move(dealer)));
  }

  Status Send(PeerId to, const FrameView& frame) override {
    if (to != kServerPeer) return Unavailable(Str("peer is not connected:", Kv("peer", to)));
    TC_RETURN_IF_ERROR(CheckMailboxLimits(frame));
    ZmqMessage message = MessageOf(frame);
    const MutexLock lock(mutex_);
    const ZmqIo io = dealer_.socket().TrySend("", std::move(message));
    RingIf(dealer_.lost() || dealer_.socket().readable());
    if (dealer_.lost()) return Lost();
    if (io == ZmqIo::kDone) return OkStatus();
    if (io == ZmqIo::kWouldBlock) return ResourceExhausted("the queue to the server is full");
    return ZmqError("cannot send");
  }

  std::vector<std::string> endpoints() const override { return {}; }

 private:
  ZmqClientMailbox(WakeEvent wake, std::unique_ptr<ZmqContext> context, ZmqDealer dealer)
      : ZmqMailbox(std::move(wake)),
        context_(std::move(context)),
        socket_fd_(dealer.socket().fd()),
        monitor_fd_(dealer.monitor_fd()),
        dealer_(std::move(dealer)) {}

  Result<std::optional<Received>> TryReceive() override {
    const MutexLock lock(mutex_);
    ZmqMessage message;
    while (true) {
      // Asked first: what arrived before the loss is still delivered.
      const bool lost = dealer_.lost();
      const ZmqIo io = dealer_.socket().TryReceive(nullptr, &message);
      if (io == ZmqIo::kFailed) return ZmqError("cannot receive");
      if (io != ZmqIo::kDone) {
        if (lost) return Lost();
        return std::optional<Received>();
      }
      Received received{kServerPeer, {}};
      if (Decode(message, kServerPeer, &received.frame)) {
        return std::optional<Received>(std::move(received));
      }
    }
  }

  Status Lost() REQUIRES(mutex_) {
    return Unavailable(
        Str("connection to the server is lost:", Kv("endpoint", dealer_.endpoint())));
  }

  void Wait(int wake_fd, TimePoint deadline) override {
    WaitReadable({socket_fd_, monitor_fd_, wake_fd}, deadline);
  }

  const std::unique_ptr<ZmqContext> context_;  // outlives the sockets
  const int socket_fd_;
  const int monitor_fd_;
  Mutex mutex_;
  ZmqDealer dealer_ GUARDED_BY(mutex_);
};

}  // namespace

Result<std::unique_ptr<Mailbox>> BindZmqMailbox(const ZmqMailboxOptions& options) {
  return ZmqServerMailbox::Bind(options);
}

Result<std::unique_ptr<Mailbox>> ConnectZmqMailbox(const ZmqMailboxOptions& options) {
  return ZmqClientMailbox::Connect(options);
}

}  // namespace thermocline::comm
