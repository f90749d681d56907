// What a worker needs to join a cluster: where the coordinator listens, and the key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "comm/cluster_key.h"

namespace thermocline::comm {

struct JoinTicket {
  std::vector<std::string> endpoints;  // candidates, most likely first
  ClusterKey key;

  // "tcp://10.0.0.1:40123,tcp://10.1.0.1:40123 <key>": what the coordinator broadcasts at launch.
  std::string ToString() const;
  // kInvalidArgument names the part that is wrong; the key is never repeated.
  static Result<JoinTicket> Parse(std::string_view text);
};

// "tcp://a:1,tcp://b:1" -> both; kInvalidArgument names an endpoint that is not tcp://host:port.
Result<std::vector<std::string>> ParseEndpoints(std::string_view text);

}  // namespace thermocline::comm
