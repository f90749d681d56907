// The coordinator's mailbox without sockets: what it sends goes to a handler, what peers say is
// posted by the test.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

#include "comm/mailbox.h"
#include "proto/messages.h"

namespace thermocline::testing {

// Thread-safe. The handler runs on the sending thread, without a lock.
class FakeMailbox final : public comm::Mailbox {
 public:
  using Handler = std::function<Status(comm::PeerId to, const proto::Message& message)>;
  explicit FakeMailbox(Handler handler) : handler_(std::move(handler)) {}

  void Post(comm::PeerId from, const proto::Message& message);
  void PostBytes(comm::PeerId from, std::vector<std::byte> header);

  Status Send(comm::PeerId to, const comm::FrameView& frame) override;
  // Returns early every millisecond, because deadlines are of a clock that the test may move.
  Result<std::optional<comm::Received>> Receive(TimePoint deadline) override;
  void Wake() override;
  std::vector<std::string> endpoints() const override { return {}; }

 private:
  const Handler handler_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<comm::Received> inbox_ GUARDED_BY(mutex_);
  bool woken_ GUARDED_BY(mutex_) = false;
};

}  // namespace thermocline::testing
