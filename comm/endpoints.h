// TCP endpoints as text: reading them, listing those of this host, and trying whether one answers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace thermocline::comm {

// "tcp://host:port" or "tcp://[ipv6]:port". The port may be "*" where one listens.
struct TcpEndpoint {
  std::string host;  // without brackets
  std::string port;

  bool is_ipv6() const { return host.find(':') != std::string::npos; }
  bool is_wildcard() const { return host == "0.0.0.0" || host == "::" || host == "*"; }
  std::string ToString() const;
};

// kInvalidArgument names the text and what is wrong with it.
Result<TcpEndpoint> ParseTcpEndpoint(std::string_view text);

// Where others reach a socket bound to `bound` (with its real port): itself, or for a wildcard each
// address of this host's interfaces that are up, loopback last.
std::vector<std::string> ReachableEndpoints(const TcpEndpoint& bound);

// Connects by plain TCP and hangs up at once. kUnavailable: "refused", "no route to host", an
// unknown name; kDeadlineExceeded: "timed out". A host name that is not an address is looked up by
// the system's resolver, whose own time limit applies.
Status ProbeTcp(const TcpEndpoint& endpoint, TimePoint deadline);

// The same endpoints as one text and back: "tcp://10.0.0.1:4000,tcp://127.0.0.1:4000".
std::string JoinEndpoints(const std::vector<std::string>& endpoints);
std::vector<std::string> SplitEndpoints(std::string_view text);

}  // namespace thermocline::comm
