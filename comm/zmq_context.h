// One libzmq context and the authenticator of its CURVE servers.
//
// libzmq asks who may enter by the ZeroMQ Authentication Protocol (RFC 27) over
// inproc://zeromq.zap.01; without an answer on that address CURVE admits every key.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "base/status.h"

namespace thermocline::comm {

// The domain that our CURVE servers name in their requests.
inline constexpr const char* kZapDomain = "thermocline";

// Owns the context and, once AdmitOnly was called, the authenticator's thread. Sockets must be
// closed before it is destroyed. Thread-compatible.
class ZmqContext {
 public:
  // kUnavailable when the system refuses (file descriptors).
  static Result<std::unique_ptr<ZmqContext>> Create();
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

  // From now on CURVE servers of this context admit exactly the client whose public key (Z85) this
  // is. Called once, before any server socket is bound.
  Status AdmitOnly(const std::string& client_public_key);

  void* handle() const { return handle_; }

 private:
  explicit ZmqContext(void* handle) : handle_(handle) {}

  void* const handle_;
  std::thread authenticator_;
};

}  // namespace thermocline::comm
