#include "comm/join_ticket.h"

#include <charconv>

#include "base/str.h"

namespace thermocline::comm {
namespace {

// A name, an address or a bracketed IPv6 address, then a port.
bool IsTcpEndpoint(std::string_view text) {
  constexpr std::string_view kScheme = "tcp://";
  if (!text.starts_with(kScheme)) return false;
  const size_t colon = text.rfind(':');
  if (colon <= kScheme.size()) return false;
  const std::string_view port = text.substr(colon + 1);
  unsigned value = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
  return error == std::errc() && end == port.data() + port.size() && value > 0 && value < 65536;
}

}  // namespace

Result<std::vector<std::string>> ParseEndpoints(std::string_view text) {
  std::vector<std::string> endpoints;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view endpoint = text.substr(0, comma);
    if (!IsTcpEndpoint(endpoint)) {
      return InvalidArgument(
          Str("not an endpoint: \"", Printable(endpoint), "\"; write tcp://host:port"));
    }
    endpoints.emplace_back(endpoint);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (endpoints.empty()) return InvalidArgument("no endpoint given; write tcp://host:port");
  return endpoints;
}

std::string JoinEndpoints(const std::vector<std::string>& endpoints) {
  std::string joined;
  for (const std::string& endpoint : endpoints) {
    if (!joined.empty()) joined += ',';
    joined += endpoint;
  }
  return joined;
}

std::string JoinTicket::ToString() const {
  return Str(JoinEndpoints(endpoints), " ", key.ToString());
}

Result<JoinTicket> JoinTicket::Parse(std::string_view text) {
  const size_t space = text.find(' ');
  if (space == std::string_view::npos) return InvalidArgument("join ticket without a key");
  JoinTicket ticket;
  TC_ASSIGN_OR_RETURN(ticket.endpoints, ParseEndpoints(text.substr(0, space)));
  TC_ASSIGN_OR_RETURN(ticket.key, ClusterKey::Parse(text.substr(space + 1)));
  return ticket;
}

}  // namespace thermocline::comm
