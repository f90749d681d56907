// libzmq's sockets and messages as owned values, and its error numbers as Status.
#pragma once

#include <zmq.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "comm/cluster_key.h"
#include "comm/frame.h"
#include "comm/zmq_context.h"

namespace thermocline::comm {

// kUnavailable with libzmq's word for the error of the call that just failed.
Status ZmqError(std::string_view what);

// Owns one part of a message. Move-only.
class ZmqMessage {
 public:
  ZmqMessage() { zmq_msg_init(&message_); }
  explicit ZmqMessage(size_t n_bytes);
  ~ZmqMessage() { zmq_msg_close(&message_); }
  ZmqMessage(ZmqMessage&& other) noexcept;
  ZmqMessage& operator=(ZmqMessage&& other) noexcept;

  zmq_msg_t* get() { return &message_; }
  bool more() const { return zmq_msg_more(&message_) != 0; }
  std::span<std::byte> mutable_bytes();
  std::span<const std::byte> bytes() const;
  std::string_view text() const;

 private:
  // libzmq's accessors of constant things take non-constant pointers.
  mutable zmq_msg_t message_;
};

// A frame as one part: prefix, header, payload. One part is one CURVE box.
ZmqMessage MessageOf(const FrameView& frame);

// What became of a call that never waits.
enum class ZmqIo : uint8_t {
  kDone,
  kWouldBlock,  // nothing to read, or the peer's queue is full
  kNoPeer,      // a ROUTER does not know the peer
  kFailed,      // the context is closing
};

// Owns a socket. One thread at a time; moving it between threads needs a lock. Move-only.
class ZmqSocket {
 public:
  ZmqSocket() = default;
  static Result<ZmqSocket> Open(ZmqContext& context, int type);
  ~ZmqSocket() { Close(); }
  ZmqSocket(ZmqSocket&& other) noexcept;
  ZmqSocket& operator=(ZmqSocket&& other) noexcept;

  Status Set(int option, int value);
  Status SetInt64(int option, int64_t value);
  Status SetText(int option, std::string_view value);
  Status Bind(const std::string& endpoint);
  Status Connect(const std::string& endpoint);
  void Close();

  // Sends `to` (a ROUTER's peer; empty for other sockets) and one part. Never waits.
  ZmqIo TrySend(std::string_view to, ZmqMessage message);
  // Receives all parts of one message: the sender's routing id if `from` is given, then one part.
  // A message of another shape gives kDone with an empty part, which no decoder accepts.
  ZmqIo TryReceive(std::string* from, ZmqMessage* message);

  void* handle() const { return handle_; }
  // "tcp://127.0.0.1:40123" after Bind.
  std::string last_endpoint() const;
  // Readable when something may have changed. Edge-triggered: only wait on it after `readable()`
  // said false.
  int fd() const;
  // Whether a message waits; also makes the socket take note of new and lost connections.
  bool readable() const;

 private:
  explicit ZmqSocket(void* handle) : handle_(handle) {}

  void* handle_ = nullptr;
};

// What every TCP socket of ours has in common.
struct WireOptions {
  int queue_frames = 0;  // per peer and direction
  uint64_t max_message_bytes = 0;
  bool heartbeat = false;  // for connections that may be idle and whose reader never stops
};
Status ConfigureWire(ZmqSocket& socket, const WireOptions& options);

Status ConfigureCurveServer(ZmqSocket& socket, const ClusterKey& key);
Status ConfigureCurveClient(ZmqSocket& socket, const ClusterKey& key);

// The nine bytes of a routing id: a letter, which keeps it out of libzmq's reserved range, and the
// number.
std::string RoutingId(char kind, uint64_t number);

// Waits until one of the descriptors is readable or the deadline has passed.
void WaitReadable(std::initializer_list<int> fds, TimePoint deadline);

}  // namespace thermocline::comm
