#include "comm/zmq_dealer.h"

#include <zmq.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "base/str.h"
#include "comm/endpoints.h"

namespace thermocline::comm {
namespace {

// A candidate that neither accepts nor refuses (a firewall, a network not reachable from here) must
// not eat the time of the next one.
constexpr Duration kProbeTimeout = std::chrono::seconds(1);
// Between two rounds over the candidates, while the other side may still be starting.
constexpr Duration kRetryPause = std::chrono::milliseconds(50);
// Between two looks at the stop flag while the other side does not answer.
constexpr Duration kStopPoll = std::chrono::milliseconds(50);

// A lost connection is not made anew behind our back, so this is a day. libzmq's own ways to say
// "never" (an interval of -1, or ZMQ_IMMEDIATE) drop what had arrived but was not yet received.
constexpr int kReconnectMs = 86'400'000;

constexpr int kHandshakeFailures = ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                                   ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                                   ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
constexpr int kMonitoredEvents =
    ZMQ_EVENT_HANDSHAKE_SUCCEEDED | kHandshakeFailures | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED;

// The next event's number if one waits. A monitor message is two parts, the first of which begins
// with u16 event.
std::optional<int> NextEvent(ZmqSocket& monitor) {
  ZmqMessage event;
  if (zmq_msg_recv(event.get(), monitor.handle(), ZMQ_DONTWAIT) < 0) return std::nullopt;
  uint16_t number = 0;
  if (event.bytes().size() >= sizeof(number)) {
    std::memcpy(&number, event.bytes().data(), sizeof(number));
  }
  while (event.more()) {
    if (zmq_msg_recv(event.get(), monitor.handle(), ZMQ_DONTWAIT) < 0) break;
  }
  return number;
}

// Each monitor of a context needs an address of its own.
std::string MonitorAddress(const ZmqSocket& socket) {
  return Str("inproc://monitor-", socket.handle());
}

Status ConfigureDealer(ZmqSocket& socket, const DealerOptions& options, bool ipv6) {
  TC_RETURN_IF_ERROR(ConfigureWire(socket, options.wire));
  TC_RETURN_IF_ERROR(ConfigureCurveClient(socket, options.key));
  TC_RETURN_IF_ERROR(socket.SetText(ZMQ_ROUTING_ID, options.routing_id));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_RECONNECT_IVL, kReconnectMs));
  return socket.Set(ZMQ_IPV6, ipv6 ? 1 : 0);
}

bool Stopped(const std::atomic<bool>* stop) { return stop != nullptr && *stop; }

Status CheckCandidates(const std::vector<std::string>& endpoints) {
  if (endpoints.empty()) return InvalidArgument("no endpoint to connect to");
  for (const std::string& endpoint : endpoints) {
    TC_ASSIGN_OR_RETURN(const TcpEndpoint parsed, ParseTcpEndpoint(endpoint));
    if (parsed.port == "*") {
      return InvalidArgument(Str("endpoint to connect to has no port: ", Printable(endpoint)));
    }
  }
  return OkStatus();
}

}  // namespace

Result<ZmqDealer> ZmqDealer::Connect(ZmqContext& context, const DealerOptions& options) {
  TC_RETURN_IF_ERROR(CheckCandidates(options.endpoints));
  const SteadyClock clock;
  const TimePoint deadline = clock.Now() + options.connect_timeout;
  while (true) {
    std::string causes;
    bool every_key_refused = true;
    for (const std::string& endpoint : options.endpoints) {
      if (Stopped(options.stop)) return Aborted("stopped while connecting");
      auto dealer = ConnectTo(context, options, endpoint, deadline);
      if (dealer.ok()) return dealer;
      causes += Str(" ", endpoint, " (", dealer.status().message(), ")");
      every_key_refused &= dealer.status().code() == StatusCode::kAborted;
    }
    if (every_key_refused || clock.Now() + kRetryPause >= deadline) {
      return Unavailable(Str("no endpoint can be reached:", causes));
    }
    std::this_thread::sleep_for(kRetryPause);
  }
}

// libzmq's I/O thread tells the monitor what happens to the connection, and waits for somebody to
// read it: if nobody can any more, it waits for ever, and with it every link of the context. So no
// event may come after monitor_ has closed, be it that a handshake just succeeds or the peer
// leaves.
ZmqDealer::~ZmqDealer() {
  if (socket_.handle() != nullptr) (void)zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

// kAborted when the other side answered but the key exchange failed, which trying again will not
// change; kUnavailable and kDeadlineExceeded when nobody answered.
Result<ZmqDealer> ZmqDealer::ConnectTo(ZmqContext& context, const DealerOptions& options,
                                       const std::string& endpoint, TimePoint deadline) {
  TC_ASSIGN_OR_RETURN(const TcpEndpoint parsed, ParseTcpEndpoint(endpoint));
  TC_RETURN_IF_ERROR(ProbeTcp(parsed, std::min(deadline, SteadyClock().Now() + kProbeTimeout)));
  ZmqDealer dealer;
  dealer.endpoint_ = endpoint;
  TC_ASSIGN_OR_RETURN(dealer.socket_, ZmqSocket::Open(context, ZMQ_DEALER));
  TC_RETURN_IF_ERROR(ConfigureDealer(dealer.socket_, options, parsed.is_ipv6()));
  const std::string monitor_address = MonitorAddress(dealer.socket_);
  if (zmq_socket_monitor(dealer.socket_.handle(), monitor_address.c_str(), kMonitoredEvents) != 0) {
    return ZmqError("cannot watch a ZeroMQ socket");
  }
  TC_ASSIGN_OR_RETURN(dealer.monitor_, ZmqSocket::Open(context, ZMQ_PAIR));
  TC_RETURN_IF_ERROR(dealer.monitor_.Set(ZMQ_LINGER, 0));
  TC_RETURN_IF_ERROR(dealer.monitor_.Connect(monitor_address));
  TC_RETURN_IF_ERROR(dealer.socket_.Connect(endpoint));
  TC_RETURN_IF_ERROR(dealer.AwaitHandshake(deadline, options.stop));
  return dealer;
}

Status ZmqDealer::AwaitHandshake(TimePoint deadline, const std::atomic<bool>* stop) {
  const SteadyClock clock;
  while (true) {
    if (Stopped(stop)) return Unavailable("stopped");
    if (const auto event = NextEvent(monitor_)) {
      if (*event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return OkStatus();
      if ((*event & kHandshakeFailures) != 0 || *event == ZMQ_EVENT_DISCONNECTED ||
          *event == ZMQ_EVENT_CLOSED) {
        return Aborted("key exchange failed: wrong cluster key or not a Thermocline port");
      }
    } else if (clock.Now() >= deadline) {
      return DeadlineExceeded("accepts connections but does not answer the key exchange");
    } else if (!monitor_.readable()) {
      WaitReadable({monitor_.fd()}, std::min(deadline, clock.Now() + kStopPoll));
    }
  }
}

bool ZmqDealer::lost() {
  while (!lost_) {
    const auto event = NextEvent(monitor_);
    if (!event) break;
    lost_ = *event == ZMQ_EVENT_DISCONNECTED || *event == ZMQ_EVENT_CLOSED;
  }
  return lost_;
}

}  // namespace thermocline::comm
