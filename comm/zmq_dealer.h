// The connecting end of a ZeroMQ connection: finds an endpoint that answers, awaits the key
// exchange, and knows when the connection is lost.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/cluster_key.h"
#include "comm/zmq_socket.h"

namespace thermocline::comm {

struct DealerOptions {
  ClusterKey key;
  std::string routing_id;
  std::vector<std::string> endpoints;  // candidates, tried in order
  Duration connect_timeout{0};
  const std::atomic<bool>* stop = nullptr;  // ends connecting early when set; may be null
  WireOptions wire;
};

// Owns a DEALER that is connected once: a lost connection stays lost, so that no message of one
// incarnation reaches the next. Thread-compatible.
class ZmqDealer {
 public:
  // Tries the candidates in turn, again and again until `connect_timeout`, because the other side
  // may come up later. kUnavailable lists the candidates and why each failed; kInvalidArgument for
  // a malformed one; kAborted when told to stop.
  static Result<ZmqDealer> Connect(ZmqContext& context, const DealerOptions& options);
  ~ZmqDealer();
  ZmqDealer(ZmqDealer&&) noexcept = default;
  ZmqDealer& operator=(ZmqDealer&&) = delete;

  ZmqSocket& socket() { return socket_; }
  const std::string& endpoint() const { return endpoint_; }
  // Whether the connection has ended; once true it stays so. Messages may still wait in the socket.
  bool lost();
  // Readable when `lost` may have changed; edge-triggered, so ask `lost` first.
  int monitor_fd() const { return monitor_.fd(); }

 private:
  ZmqDealer() = default;
  static Result<ZmqDealer> ConnectTo(ZmqContext& context, const DealerOptions& options,
                                     const std::string& endpoint, TimePoint deadline);
  Status AwaitHandshake(TimePoint deadline, const std::atomic<bool>* stop);

  std::string endpoint_;
  ZmqSocket socket_;
  ZmqSocket monitor_;
  bool lost_ = false;
};

}  // namespace thermocline::comm
