#include "comm/zmq_router.h"

#include <zmq.h>

#include "comm/endpoints.h"

namespace thermocline::comm {

Result<ZmqSocket> BindRouter(ZmqContext& context, const ClusterKey& key,
                             const std::string& endpoint, const WireOptions& wire) {
  TC_ASSIGN_OR_RETURN(const TcpEndpoint parsed, ParseTcpEndpoint(endpoint));
  TC_RETURN_IF_ERROR(context.AdmitOnly(key.Client().public_key));
  TC_ASSIGN_OR_RETURN(ZmqSocket router, ZmqSocket::Open(context, ZMQ_ROUTER));
  TC_RETURN_IF_ERROR(ConfigureWire(router, wire));
  TC_RETURN_IF_ERROR(ConfigureCurveServer(router, key));
  TC_RETURN_IF_ERROR(router.Set(ZMQ_ROUTER_MANDATORY, 1));
  TC_RETURN_IF_ERROR(router.Set(ZMQ_IPV6, parsed.is_ipv6() ? 1 : 0));
  TC_RETURN_IF_ERROR(router.Bind(endpoint));
  return router;
}

}  // namespace thermocline::comm
