#include "comm/join_ticket.h"

#include "base/str.h"
#include "comm/endpoints.h"

namespace thermocline::comm {

Result<std::vector<std::string>> ParseEndpoints(std::string_view text) {
  std::vector<std::string> endpoints = SplitEndpoints(text);
  if (endpoints.empty()) return InvalidArgument("no endpoint given; write tcp://host:port");
  for (const std::string& endpoint : endpoints) {
    TC_RETURN_IF_ERROR(ParseTcpEndpoint(endpoint).status());
  }
  return endpoints;
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
