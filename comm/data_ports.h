// Makers of the data ports that need nothing but this process.
#pragma once

#include <memory>
#include <string>

#include "base/ids.h"
#include "comm/cluster_key.h"
#include "comm/link.h"

namespace thermocline::comm {

struct ZmqDataPortOptions {
  ClusterKey key;
  WorkerId self;
  std::string bind_endpoint = "tcp://127.0.0.1:*";
  Duration connect_timeout = std::chrono::seconds(5);
  // Open ends with kAborted soon after this is set; null: only at its timeout.
  const std::atomic<bool>* stop = nullptr;
};

// One ROUTER that peers' DEALERs reach, CURVE on both.
Result<std::unique_ptr<DataPort>> MakeZmqDataPort(const ZmqDataPortOptions& options);

// Ports of workers that live in one process; every port of one hub can reach the others, each from
// its own thread. Open gives kUnavailable while the hub has no port of that worker.
class LoopbackHub {
 public:
  struct State;

  LoopbackHub();
  ~LoopbackHub();
  std::unique_ptr<DataPort> MakePort(WorkerId self);

 private:
  // Shared with the ports and links, which may outlive the hub.
  std::shared_ptr<State> state_;
};

}  // namespace thermocline::comm
