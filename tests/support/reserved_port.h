// A TCP port that nobody else gets.
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>

#include "base/check.h"

namespace thermocline::testing {

// Owns a socket that is bound to a port of the loopback, so that the system gives this port to
// nobody who leaves the choice to it. Whoever names the port and sets SO_REUSEADDR, as servers do,
// can listen on it, and do so again; until then connections are refused.
class ReservedPort {
 public:
  ReservedPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int yes = 1;
    CHECK(setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    socklen_t n_bytes = sizeof(address);
    CHECK(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &n_bytes) == 0);
    number_ = ntohs(address.sin_port);
  }
  ~ReservedPort() { close(fd_); }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  int fd() const { return fd_; }
  uint16_t number() const { return number_; }

 private:
  const int fd_;
  uint16_t number_ = 0;
};

}  // namespace thermocline::testing
