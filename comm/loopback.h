// The control plane inside one process: for a cluster in one process and for tests.
#pragma once

#include <memory>

#include "base/status.h"
#include "comm/mailbox.h"

namespace thermocline::comm {

// One server and its peers. Thread-safe; its mailboxes behave like the ZeroMQ ones, except that
// nothing is copied to another process and a full queue is exactly `queue_frames` long.
class LoopbackMailboxHub {
 public:
  struct State;

  // `queue_frames` messages may wait per sender and receiver; more is kResourceExhausted.
  explicit LoopbackMailboxHub(int queue_frames = 1024);
  ~LoopbackMailboxHub();

  // The server's end; one at a time.
  std::unique_ptr<Mailbox> MakeServer();
  // A peer's end. kUnavailable when there is no server; kInvalidArgument for peer 0 or one that is
  // connected already.
  Result<std::unique_ptr<Mailbox>> Connect(PeerId self);

 private:
  // Shared with the mailboxes, which may outlive the hub.
  std::shared_ptr<State> state_;
};

}  // namespace thermocline::comm
