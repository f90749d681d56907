// The listening end of ZeroMQ connections.
#pragma once

#include <string>

#include "base/status.h"
#include "comm/cluster_key.h"
#include "comm/zmq_socket.h"

namespace thermocline::comm {

// A ROUTER with CURVE that admits the holders of `key`, bound to `endpoint`. `context` must not
// have an authenticator yet. kInvalidArgument for a malformed endpoint; kUnavailable names the
// endpoint that cannot be bound.
Result<ZmqSocket> BindRouter(ZmqContext& context, const ClusterKey& key,
                             const std::string& endpoint, const WireOptions& wire);

}  // namespace thermocline::comm
