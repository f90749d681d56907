#include "comm/endpoints.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "base/str.h"

namespace thermocline::comm {
namespace {

constexpr std::string_view kScheme = "tcp://";
// A DNS name has at most 253 characters.
constexpr size_t kMaxHostChars = 253;

bool IsPort(std::string_view text) {
  if (text == "*") return true;
  int port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port > 0 && port < 65536;
}

// Owns a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

struct HostAddress {
  std::string text;
  bool is_ipv6;
  bool is_loopback;
};

// Link-local IPv6 addresses are left out: they mean nothing without the name of an interface.
std::vector<HostAddress> HostAddresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, &freeifaddrs);
  std::vector<HostAddress> addresses;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    const bool loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* ipv4 = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      inet_ntop(AF_INET, &ipv4->sin_addr, text.data(), text.size());
      addresses.push_back({text.data(), false, loopback});
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* ipv6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      if (IN6_IS_ADDR_LINKLOCAL(&ipv6->sin6_addr)) continue;
      inet_ntop(AF_INET6, &ipv6->sin6_addr, text.data(), text.size());
      addresses.push_back({text.data(), true, loopback});
    }
  }
  return addresses;
}

std::string ErrnoText(int error) {
  if (error == ECONNREFUSED) return "refused";
  return std::strerror(error);
}

// Waits for a connection under way.
Status AwaitConnected(int fd, TimePoint deadline) {
  const Duration left = std::max(deadline - SteadyClock().Now(), Duration{0});
  const auto left_ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  pollfd polled{fd, POLLOUT, 0};
  if (poll(&polled, 1, static_cast<int>(std::min<int64_t>(left_ms, 60'000))) <= 0) {
    return DeadlineExceeded("timed out");
  }
  int error = 0;
  socklen_t n_bytes = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n_bytes);
  return error == 0 ? OkStatus() : Unavailable(ErrnoText(error));
}

Status ProbeAddress(const addrinfo& address, TimePoint deadline) {
  const Descriptor fd(
      socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol));
  if (fd.get() < 0) return Unavailable(ErrnoText(errno));
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return OkStatus();
  if (errno != EINPROGRESS) return Unavailable(ErrnoText(errno));
  return AwaitConnected(fd.get(), deadline);
}

}  // namespace

std::string TcpEndpoint::ToString() const {
  return is_ipv6() ? Str(kScheme, "[", host, "]:", port) : Str(kScheme, host, ":", port);
}

Result<TcpEndpoint> ParseTcpEndpoint(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return InvalidArgument(Str("not a tcp://host:port endpoint, ", why, ": ", Printable(text)));
  };
  if (text.substr(0, kScheme.size()) != kScheme) return bad("no tcp://");
  const std::string_view rest = text.substr(kScheme.size());
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return bad("no port");
  std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  if (!IsPort(port)) return bad("port outside 1..65535");
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || host.size() > kMaxHostChars) return bad("host empty or too long");
  if (!bracketed && host.find_first_of(":[]") != std::string_view::npos) {
    return bad("IPv6 is written in [ ]");
  }
  return TcpEndpoint{std::string(host), std::string(port)};
}

std::vector<std::string> ReachableEndpoints(const TcpEndpoint& bound) {
  if (!bound.is_wildcard()) return {bound.ToString()};
  std::vector<HostAddress> addresses = HostAddresses();
  // An IPv6 wildcard also takes IPv4 connections, not the other way round.
  if (!bound.is_ipv6()) std::erase_if(addresses, [](const auto& a) { return a.is_ipv6; });
  std::stable_partition(addresses.begin(), addresses.end(),
                        [](const auto& a) { return !a.is_loopback; });
  std::vector<std::string> endpoints;
  for (const HostAddress& address : addresses) {
    endpoints.push_back(TcpEndpoint{address.text, bound.port}.ToString());
  }
  return endpoints;
}

Status ProbeTcp(const TcpEndpoint& endpoint, TimePoint deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  // libzmq is told to use IPv6 only for addresses written as such, so names mean IPv4 here too.
  hints.ai_family = endpoint.is_ipv6() ? AF_INET6 : AF_INET;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
  if (error != 0) return Unavailable(gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  return ProbeAddress(*found, deadline);
}

std::string JoinEndpoints(const std::vector<std::string>& endpoints) {
  std::string text;
  for (const std::string& endpoint : endpoints) text += (text.empty() ? "" : ",") + endpoint;
  return text;
}

std::vector<std::string> SplitEndpoints(std::string_view text) {
  std::vector<std::string> endpoints;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) endpoints.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return endpoints;
}

}  // namespace thermocline::comm
