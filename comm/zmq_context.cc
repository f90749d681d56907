#include "comm/zmq_context.h"

#include <pthread.h>
#include <sodium.h>
#include <zmq.h>

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/str.h"
#include "comm/zmq_socket.h"

namespace thermocline::comm {
namespace {

constexpr size_t kPublicKeyBytes = 32;
using PublicKey = std::array<uint8_t, kPublicKeyBytes>;

// The parts of a request, RFC 27 section "request message".
enum ZapPart { kVersion, kRequestId, kDomain, kAddress, kIdentity, kMechanism, kCredentials };
constexpr size_t kZapRequestParts = 7;

// Waits for a whole request. nullopt when the context is being shut down, which is how this wait
// ends; libzmq itself is the only sender.
std::optional<std::vector<ZmqMessage>> ReceiveRequest(ZmqSocket& socket) {
  std::vector<ZmqMessage> parts;
  do {
    ZmqMessage part;
    if (zmq_msg_recv(part.get(), socket.handle(), 0) < 0) {
      if (zmq_errno() == EINTR) continue;
      return std::nullopt;
    }
    parts.push_back(std::move(part));
  } while (parts.empty() || parts.back().more());
  return parts;
}

bool IsAdmitted(const std::vector<ZmqMessage>& request, const PublicKey& admitted) {
  return request.size() == kZapRequestParts && request[kMechanism].text() == "CURVE" &&
         request[kCredentials].bytes().size() == kPublicKeyBytes &&
         sodium_memcmp(request[kCredentials].bytes().data(), admitted.data(), kPublicKeyBytes) == 0;
}

void Reply(ZmqSocket& socket, std::string_view request_id, bool admitted) {
  const std::array<std::string_view, 6> parts = {
      "1.0", request_id, admitted ? "200" : "400", admitted ? "OK" : "wrong key", "", ""};
  for (size_t i = 0; i < parts.size(); ++i) {
    const int flags = i + 1 < parts.size() ? ZMQ_SNDMORE : 0;
    if (zmq_send(socket.handle(), parts[i].data(), parts[i].size(), flags) < 0) return;
  }
}

void Authenticate(ZmqSocket socket, PublicKey admitted) {
  while (auto request = ReceiveRequest(socket)) {
    const bool ok = IsAdmitted(*request, admitted);
    if (!ok) {
      const bool has_address = request->size() > kAddress;
      LogWarn("comm",
              Str("peer refused: wrong key",
                  Kv("address", has_address ? Printable((*request)[kAddress].text()) : "")));
    }
    Reply(socket, request->size() > kRequestId ? (*request)[kRequestId].text() : "", ok);
  }
}

}  // namespace

Result<std::unique_ptr<ZmqContext>> ZmqContext::Create() {
  void* handle = zmq_ctx_new();
  if (handle == nullptr) return ZmqError("cannot create a ZeroMQ context");
  return std::unique_ptr<ZmqContext>(new ZmqContext(handle));
}

ZmqContext::~ZmqContext() {
  zmq_ctx_shutdown(handle_);  // ends the authenticator's wait
  if (authenticator_.joinable()) authenticator_.join();
  while (zmq_ctx_term(handle_) != 0 && zmq_errno() == EINTR) {
  }
}

Status ZmqContext::AdmitOnly(const std::string& client_public_key) {
  PublicKey admitted{};
  if (zmq_z85_decode(admitted.data(), client_public_key.c_str()) == nullptr) {
    return InvalidArgument("client key is not Z85");
  }
  TC_ASSIGN_OR_RETURN(ZmqSocket socket, ZmqSocket::Open(*this, ZMQ_REP));
  TC_RETURN_IF_ERROR(socket.Set(ZMQ_LINGER, 0));
  TC_RETURN_IF_ERROR(socket.Bind("inproc://zeromq.zap.01"));
  authenticator_ = std::thread(Authenticate, std::move(socket), admitted);
  pthread_setname_np(authenticator_.native_handle(), "tc-zap");
  return OkStatus();
}

}  // namespace thermocline::comm
