#include "comm/zmq_socket.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/str.h"

namespace thermocline::comm {
namespace {

// How long a closing socket may hold on for messages not yet sent: long enough for a last
// "shutdown" to leave the host, short enough to go unnoticed at exit.
constexpr int kLingerMs = 200;
// A peer that connects and says nothing is let go after this.
constexpr int kHandshakeMs = 3000;
// Heartbeats: six may be lost before a silent peer counts as gone.
constexpr int kHeartbeatMs = 500;
constexpr int kHeartbeatTimeoutMs = 3000;
// TCP's own probes find a vanished host where there is no heartbeat: first after 5 s, then thrice.
constexpr int kKeepaliveIdleS = 5;
constexpr int kKeepaliveIntervalS = 2;
constexpr int kKeepaliveProbes = 3;

// Reads and forgets what is left of a message whose part said "more".
void SkipParts(void* socket) {
  ZmqMessage part;
  do {
    if (zmq_msg_recv(part.get(), socket, ZMQ_DONTWAIT) < 0) return;
  } while (part.more());
}

ZmqIo IoOfErrno() {
  switch (zmq_errno()) {
    case EAGAIN:
    case EINTR:
      return ZmqIo::kWouldBlock;
    case EHOSTUNREACH:
      return ZmqIo::kNoPeer;
    default:
      return ZmqIo::kFailed;
  }
}

}  // namespace

Status ZmqError(std::string_view what) {
  return Unavailable(Str(what, ": ", zmq_strerror(zmq_errno())));
}

ZmqMessage::ZmqMessage(size_t n_bytes) { CHECK(zmq_msg_init_size(&message_, n_bytes) == 0); }

ZmqMessage::ZmqMessage(ZmqMessage&& other) noexcept {
  zmq_msg_init(&message_);
  zmq_msg_move(&message_, &other.message_);
}

ZmqMessage& ZmqMessage::operator=(ZmqMessage&& other) noexcept {
  if (this != &other) zmq_msg_move(&message_, &other.message_);
  return *this;
}

std::span<std::byte> ZmqMessage::mutable_bytes() {
  return {static_cast<std::byte*>(zmq_msg_data(&message_)), zmq_msg_size(&message_)};
}

std::span<const std::byte> ZmqMessage::bytes() const {
  return {static_cast<const std::byte*>(zmq_msg_data(&message_)), zmq_msg_size(&message_)};
}

std::string_view ZmqMessage::text() const {
  return {static_cast<const char*>(zmq_msg_data(&message_)), zmq_msg_size(&message_)};
}

ZmqMessage MessageOf(const FrameView& frame) {
  ZmqMessage message(EncodedFrameBytes(frame));
  EncodeFrameTo(frame, message.mutable_bytes().data());
  return message;
}

Result<ZmqSocket> ZmqSocket::Open(ZmqContext& context, int type) {
  void* handle = zmq_socket(context.handle(), type);
  if (handle == nullptr) return ZmqError("cannot open a ZeroMQ socket");
  return ZmqSocket(handle);
}

ZmqSocket::ZmqSocket(ZmqSocket&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}

ZmqSocket& ZmqSocket::operator=(ZmqSocket&& other) noexcept {
  if (this != &other) {
    Close();
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

void ZmqSocket::Close() {
  if (handle_ != nullptr) zmq_close(std::exchange(handle_, nullptr));
}

Status ZmqSocket::Set(int option, int value) {
  if (zmq_setsockopt(handle_, option, &value, sizeof(value)) == 0) return OkStatus();
  return ZmqError(Str("socket option refused:", Kv("option", option), Kv("value", value)));
}

Status ZmqSocket::SetInt64(int option, int64_t value) {
  if (zmq_setsockopt(handle_, option, &value, sizeof(value)) == 0) return OkStatus();
  return ZmqError(Str("socket option refused:", Kv("option", option), Kv("value", value)));
}

Status ZmqSocket::SetText(int option, std::string_view value) {
  if (zmq_setsockopt(handle_, option, value.data(), value.size()) == 0) return OkStatus();
  return ZmqError(Str("socket option refused:", Kv("option", option)));
}

Status ZmqSocket::Bind(const std::string& endpoint) {
  if (zmq_bind(handle_, endpoint.c_str()) == 0) return OkStatus();
  return ZmqError(Str("cannot listen on ", Printable(endpoint)));
}

Status ZmqSocket::Connect(const std::string& endpoint) {
  if (zmq_connect(handle_, endpoint.c_str()) == 0) return OkStatus();
  return ZmqError(Str("cannot connect to ", Printable(endpoint)));
}

ZmqIo ZmqSocket::TrySend(std::string_view to, ZmqMessage message) {
  // A send alone looks at new connections only once in a while and would miss a peer just admitted.
  readable();
  if (!to.empty() && zmq_send(handle_, to.data(), to.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
    return IoOfErrno();
  }
  if (zmq_msg_send(message.get(), handle_, ZMQ_DONTWAIT) < 0) return IoOfErrno();
  return ZmqIo::kDone;
}

ZmqIo ZmqSocket::TryReceive(std::string* from, ZmqMessage* message) {
  ZmqMessage part;
  if (zmq_msg_recv(part.get(), handle_, ZMQ_DONTWAIT) < 0) return IoOfErrno();
  if (from != nullptr) {
    from->assign(part.text());
    if (!part.more()) {
      *message = ZmqMessage();
      return ZmqIo::kDone;
    }
    // The parts of one message arrive together, so this one is there.
    if (zmq_msg_recv(part.get(), handle_, ZMQ_DONTWAIT) < 0) return IoOfErrno();
  }
  if (part.more()) {
    SkipParts(handle_);
    part = ZmqMessage();
  }
  *message = std::move(part);
  return ZmqIo::kDone;
}

std::string ZmqSocket::last_endpoint() const {
  std::array<char, 256> text{};
  size_t n_bytes = text.size();
  if (zmq_getsockopt(handle_, ZMQ_LAST_ENDPOINT, text.data(), &n_bytes) != 0) return "";
  return std::string(text.data());
}

int ZmqSocket::fd() const {
  int fd = -1;
  size_t n_bytes = sizeof(fd);
  zmq_getsockopt(handle_, ZMQ_FD, &fd, &n_bytes);
  return fd;
}

bool ZmqSocket::readable() const {
  int events = 0;
  size_t n_bytes = sizeof(events);
  if (zmq_getsockopt(handle_, ZMQ_EVENTS, &events, &n_bytes) != 0) return false;
  return (events & ZMQ_POLLIN) != 0;
}

Status ConfigureWire(ZmqSocket& socket, const WireOptions& options) {
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_LINGER, kLingerMs));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_SNDHWM, options.queue_frames));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_RCVHWM, options.queue_frames));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_HANDSHAKE_IVL, kHandshakeMs));
  TC_RETURN_IF_ERROR(
      socket.SetInt64(ZMQ_MAXMSGSIZE, static_cast<int64_t>(options.max_message_bytes)));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_TCP_KEEPALIVE, 1));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_TCP_KEEPALIVE_IDLE, kKeepaliveIdleS));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_TCP_KEEPALIVE_INTVL, kKeepaliveIntervalS));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_TCP_KEEPALIVE_CNT, kKeepaliveProbes));
  if (!options.heartbeat) return OkStatus();
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_HEARTBEAT_IVL, kHeartbeatMs));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_HEARTBEAT_TIMEOUT, kHeartbeatTimeoutMs));
  return socket.Set(ZMQ_HEARTBEAT_TTL, kHeartbeatTimeoutMs);
}

Status ConfigureCurveServer(ZmqSocket& socket, const ClusterKey& key) {
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_CURVE_SERVER, 1));
  TC_RETURN_IF_ERROR(socket.SetText(ZMQ_CURVE_SECRETKEY, key.Server().secret_key));
  return socket.SetText(ZMQ_ZAP_DOMAIN, kZapDomain);
}

Status ConfigureCurveClient(ZmqSocket& socket, const ClusterKey& key) {
  const ClusterKey::CurvePair client = key.Client();
  TC_RETURN_IF_ERROR(socket.SetText(ZMQ_CURVE_SERVERKEY, key.Server().public_key));
  TC_RETURN_IF_ERROR(socket.SetText(ZMQ_CURVE_PUBLICKEY, client.public_key));
  return socket.SetText(ZMQ_CURVE_SECRETKEY, client.secret_key);
}

std::string RoutingId(char kind, uint64_t number) {
  std::string id(1 + sizeof(number), kind);
  std::memcpy(id.data() + 1, &number, sizeof(number));
  return id;
}

void WaitReadable(std::initializer_list<int> fds, TimePoint deadline) {
  std::array<pollfd, 4> polled{};
  CHECK(fds.size() <= polled.size());
  size_t n_fds = 0;
  for (const int fd : fds) polled[n_fds++] = {fd, POLLIN, 0};
  const Duration left = std::max(deadline - SteadyClock().Now(), Duration{0});
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{static_cast<time_t>(seconds.count()),
                         static_cast<long>((left - seconds).count())};
  ppoll(polled.data(), n_fds, &timeout, nullptr);
}

}  // namespace thermocline::comm
