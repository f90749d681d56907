// The data plane over ZeroMQ. Each worker has one ROUTER, on which it receives from everybody, and
// one DEALER per peer, on which it sends to that peer's ROUTER.
//
// Flow control is by credit: a sender has at most kLinkWindowFrames frames under way that the
// receiver's step thread has not taken, and the receiver returns credit over the same connection as
// it takes them. So a peer that nobody reads fills its own window and no other peer's, and what
// waits here is bounded by the window times the number of peers.
#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "comm/data_ports.h"
#include "comm/endpoints.h"
#include "comm/zmq_dealer.h"
#include "comm/zmq_router.h"
#include "comm/zmq_socket.h"

namespace thermocline::comm {
namespace {

// Waking a sleeping thread costs 50 to 200 us on an idle core (C-states, scheduler), several times
// the 26 us a small frame needs. A waiting step thread therefore asks this long before it sleeps;
// the next frame of a busy pipeline comes within it, and an idle worker pays it once per wait. It
// does not yield meanwhile: on a busy core that gives away a whole time slice, milliseconds, where
// a sleeper is let in soon after it is woken.
constexpr Duration kSpin = std::chrono::microseconds(80);
// Credit goes back in halves of the window: rarely enough to cost nothing, early enough that a
// sender never waits for a receiver that keeps up.
constexpr uint32_t kCreditBatch = kLinkWindowFrames / 2;
// More than an honest peer can have under way, even after opening its link a few times.
constexpr size_t kMaxParkedFrames = 4 * kLinkWindowFrames;
// Distinct worker ids that holders of the key may make us remember.
constexpr size_t kMaxPeers = 4096;
// After our connection to a peer ended, its last frames may still be under way on the other one.
constexpr Duration kLossGrace = std::chrono::milliseconds(50);

constexpr char kWorkerRoutingKind = 'W';

// Queues deeper than the window, so that libzmq never stops reading a connection. No heartbeat: a
// step may compute for seconds without looking here, and whether a worker lives is asked elsewhere.
WireOptions DataWire() {
  return {.queue_frames = 2 * static_cast<int>(kMaxParkedFrames),
          .max_message_bytes = kFramePrefixBytes + kMaxHeaderBytes + kMaxPayloadBytes,
          .heartbeat = false};
}

// Worker and number of the connection; a link opened again is a new connection.
std::string ConnectionId(WorkerId worker, uint64_t connection) {
  std::string id = RoutingId(kWorkerRoutingKind, worker.value);
  id.append(reinterpret_cast<const char*>(&connection), sizeof(connection));
  return id;
}

std::optional<WorkerId> WorkerOf(std::string_view connection_id) {
  WorkerId worker;
  if (connection_id.size() != 1 + 2 * sizeof(uint64_t) ||
      connection_id.front() != kWorkerRoutingKind) {
    return std::nullopt;
  }
  std::memcpy(&worker.value, connection_id.data() + 1, sizeof(worker.value));
  return worker;
}

// What has arrived from one peer.
struct Inbound {
  struct Parked {
    std::string connection_id;
    ZmqMessage message;
  };
  std::deque<Parked> parked;
  bool overrun = false;  // the peer ignored its window; frames are missing
  std::string credited;  // connection that `n_taken` counts for
  uint32_t n_taken = 0;  // frames taken since the last credit
};

// Owns the ROUTER and what arrived on it. Step thread only.
class ZmqDataPort final : public DataPort {
 public:
  static Result<std::unique_ptr<DataPort>> Bind(const ZmqDataPortOptions& options) {
    TC_ASSIGN_OR_RETURN(auto context, ZmqContext::Create());
    TC_ASSIGN_OR_RETURN(ZmqSocket router,
                        BindRouter(*context, options.key, options.bind_endpoint, DataWire()));
    TC_ASSIGN_OR_RETURN(const TcpEndpoint bound, ParseTcpEndpoint(router.last_endpoint()));
    return std::unique_ptr<DataPort>(new ZmqDataPort(options, std::move(context), std::move(router),
                                                     JoinEndpoints(ReachableEndpoints(bound))));
  }

  Transport transport() const override { return Transport::kZmq; }
  std::string address() const override { return address_; }
  void SetSelf(WorkerId self) override { self_ = self; }
  Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) override {
    return OpenWithin(peer, peer_address, options_.connect_timeout);
  }
  Result<std::unique_ptr<Link>> OpenWithin(WorkerId peer, const std::string& peer_address,
                                           Duration patience) override;

  int fd() const { return router_fd_; }

  // Moves whatever has arrived to its peer's queue. Never waits.
  Status Pump() {
    std::string connection_id;
    ZmqMessage message;
    while (true) {
      const ZmqIo io = router_.TryReceive(&connection_id, &message);
      if (io == ZmqIo::kFailed) return ZmqError("cannot receive");
      if (io != ZmqIo::kDone) return OkStatus();
      Park(connection_id, std::move(message));
    }
  }

  // The peer's next frame among those that have arrived, or nullopt.
  std::optional<Result<ZmqMessage>> Take(WorkerId peer) {
    Inbound& inbound = inbound_[peer];
    if (!inbound.parked.empty()) {
      Inbound::Parked taken = std::move(inbound.parked.front());
      inbound.parked.pop_front();
      ReturnCredit(inbound, taken.connection_id);
      return Result<ZmqMessage>(std::move(taken.message));
    }
    if (inbound.overrun) {
      return Result<ZmqMessage>(DataLoss(Str("peer sent beyond its window:", Kv("peer", peer))));
    }
    return std::nullopt;
  }

 private:
  ZmqDataPort(const ZmqDataPortOptions& options, std::unique_ptr<ZmqContext> context,
              ZmqSocket router, std::string address)
      : options_(options),
        self_(options.self),
        context_(std::move(context)),
        router_(std::move(router)),
        router_fd_(router_.fd()),
        address_(std::move(address)) {}

  void Park(const std::string& connection_id, ZmqMessage message) {
    const std::optional<WorkerId> worker = WorkerOf(connection_id);
    if (!worker || (inbound_.size() >= kMaxPeers && !inbound_.contains(*worker))) {
      LogWarn("comm", Str("frame dropped: not from a worker we can know",
                          Kv("routing_id", Printable(connection_id))));
      return;
    }
    Inbound& inbound = inbound_[*worker];
    if (inbound.parked.size() < kMaxParkedFrames) {
      inbound.parked.push_back({connection_id, std::move(message)});
      return;
    }
    if (!inbound.overrun) {
      LogWarn("comm", Str("frames dropped: peer sends beyond its window", Kv("peer", *worker)));
    }
    inbound.overrun = true;
  }

  void ReturnCredit(Inbound& inbound, const std::string& connection_id) {
    if (inbound.credited != connection_id) {
      inbound.credited = connection_id;
      inbound.n_taken = 0;
    }
    if (++inbound.n_taken < kCreditBatch) return;
    ZmqMessage credit(sizeof(inbound.n_taken));
    std::memcpy(credit.mutable_bytes().data(), &inbound.n_taken, sizeof(inbound.n_taken));
    inbound.n_taken = 0;
    // A connection that has gone needs no credit; the queue to a live one has room for these few.
    router_.TrySend(connection_id, std::move(credit));
  }

  const ZmqDataPortOptions options_;
  WorkerId self_;
  const std::unique_ptr<ZmqContext> context_;  // outlives the sockets
  ZmqSocket router_;
  const int router_fd_;
  const std::string address_;
  std::unordered_map<WorkerId, Inbound> inbound_;
  uint64_t n_opened_ = 0;
};

// Sends on its own DEALER, receives from the port's queue of its peer. Step thread only.
class ZmqLink final : public Link {
 public:
  ZmqLink(ZmqDataPort* port, WorkerId peer, ZmqDealer dealer)
      : port_(port), peer_(peer), dealer_(std::move(dealer)), dealer_fd_(dealer_.socket().fd()) {}

  WorkerId peer() const override { return peer_; }
  LinkStats stats() const override { return stats_; }

  Status Send(const FrameView& frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
    TC_RETURN_IF_ERROR(AwaitCredit(deadline));
    if (dealer_.socket().TrySend("", MessageOf(frame)) != ZmqIo::kDone) {
      // Credit keeps the queue from being full, so the connection is gone, heard of or not.
      return Lost();
    }
    --n_credits_;
    ++stats_.frames_sent;
    stats_.bytes_sent += EncodedFrameBytes(frame);
    return OkStatus();
  }

  Status Receive(Frame* frame, TimePoint deadline) override {
    TC_ASSIGN_OR_RETURN(const ZmqMessage message, NextMessage(deadline));
    return Decode(message, frame);
  }

  Result<bool> TryReceive(Frame* frame) override {
    TC_RETURN_IF_ERROR(port_->Pump());
    auto taken = port_->Take(peer_);
    if (!taken) {
      TC_RETURN_IF_ERROR(CheckLost(SteadyClock().Now()));
      return false;
    }
    TC_ASSIGN_OR_RETURN(const ZmqMessage message, std::move(*taken));
    TC_RETURN_IF_ERROR(Decode(message, frame));
    return true;
  }

 private:
  Status Decode(const ZmqMessage& message, Frame* frame) {
    TC_RETURN_IF_ERROR(DecodeFrame(message.bytes(), frame));
    ++stats_.frames_received;
    stats_.bytes_received += message.bytes().size();
    return OkStatus();
  }

  // kUnavailable when the connection ended long enough ago for its last frames to be here.
  Status CheckLost(TimePoint now) {
    if (!lost_at_ && dealer_.lost()) lost_at_ = now;
    return lost_at_ && now >= *lost_at_ + kLossGrace ? Lost() : OkStatus();
  }

  Result<ZmqMessage> NextMessage(TimePoint deadline) {
    const SteadyClock clock;
    const TimePoint spin_until = clock.Now() + kSpin;
    while (true) {
      TC_RETURN_IF_ERROR(port_->Pump());
      if (auto taken = port_->Take(peer_)) return std::move(*taken);
      const TimePoint now = clock.Now();
      if (now < spin_until && now < deadline) continue;
      TC_RETURN_IF_ERROR(CheckLost(now));
      if (now >= deadline) {
        return DeadlineExceeded(Str("no frame in time:", Kv("peer", peer_)));
      }
      WaitReadable({port_->fd(), dealer_.monitor_fd()},
                   lost_at_ ? std::min(deadline, *lost_at_ + kLossGrace) : deadline);
    }
  }

  // Waits until the window has room.
  Status AwaitCredit(TimePoint deadline) {
    while (true) {
      TC_RETURN_IF_ERROR(CollectCredit());
      if (dealer_.lost()) return Lost();
      if (n_credits_ > 0) return OkStatus();
      if (SteadyClock().Now() >= deadline) {
        return DeadlineExceeded(
            Str("peer takes no frames:", Kv("peer", peer_), Kv("under_way", kLinkWindowFrames)));
      }
      WaitReadable({dealer_fd_, dealer_.monitor_fd()}, deadline);
    }
  }

  Status CollectCredit() {
    ZmqMessage message;
    while (dealer_.socket().TryReceive(nullptr, &message) == ZmqIo::kDone) {
      uint32_t n_taken = 0;
      if (message.bytes().size() == sizeof(n_taken)) {
        std::memcpy(&n_taken, message.bytes().data(), sizeof(n_taken));
      }
      if (n_taken == 0 || n_taken > kLinkWindowFrames - n_credits_) {
        return DataLoss(Str("malformed credit:", Kv("peer", peer_), Kv("frames", n_taken)));
      }
      n_credits_ += n_taken;
    }
    return OkStatus();
  }

  Status Lost() const {
    return Unavailable(
        Str("connection to peer is lost:", Kv("peer", peer_), Kv("endpoint", dealer_.endpoint())));
  }

  ZmqDataPort* const port_;
  const WorkerId peer_;
  ZmqDealer dealer_;
  const int dealer_fd_;
  uint32_t n_credits_ = kLinkWindowFrames;
  std::optional<TimePoint> lost_at_;
  LinkStats stats_;
};

Result<std::unique_ptr<Link>> ZmqDataPort::OpenWithin(WorkerId peer,
                                                      const std::string& peer_address,
                                                      Duration patience) {
  auto dealer = ZmqDealer::Connect(*context_, {.key = options_.key,
                                               .routing_id = ConnectionId(self_, n_opened_++),
                                               .endpoints = SplitEndpoints(peer_address),
                                               .connect_timeout = patience,
                                               .stop = options_.stop,
                                               .wire = DataWire()});
  if (!dealer.ok()) return dealer.status().WithContext(Str("cannot reach worker ", peer));
  return std::unique_ptr<Link>(new ZmqLink(this, peer, std::move(*dealer)));
}

}  // namespace

Result<std::unique_ptr<DataPort>> MakeZmqDataPort(const ZmqDataPortOptions& options) {
  return ZmqDataPort::Bind(options);
}

}  // namespace thermocline::comm
