#include "tests/support/fake_mailbox.h"

#include <chrono>

#include "proto/codec.h"

namespace thermocline::testing {

void FakeMailbox::Post(comm::PeerId from, const proto::Message& message) {
  std::vector<std::byte> bytes;
  proto::Encode(message, &bytes);
  PostBytes(from, std::move(bytes));
}

void FakeMailbox::PostBytes(comm::PeerId from, std::vector<std::byte> header) {
  const MutexLock lock(mutex_);
  inbox_.push_back({from, {.header = std::move(header), .payload = {}}});
  changed_.notify_all();
}

Status FakeMailbox::Send(comm::PeerId to, const comm::FrameView& frame) {
  TC_ASSIGN_OR_RETURN(const proto::Message message, proto::Decode(frame.header));
  return handler_(to, message);
}

Result<std::optional<comm::Received>> FakeMailbox::Receive(TimePoint) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
  const MutexLock lock(mutex_);
  while (inbox_.empty() && !woken_) {
    if (changed_.wait_until(mutex_, give_up) == std::cv_status::timeout) break;
  }
  woken_ = false;
  if (inbox_.empty()) return std::optional<comm::Received>();
  std::optional<comm::Received> received(std::move(inbox_.front()));
  inbox_.pop_front();
  return received;
}

void FakeMailbox::Wake() {
  const MutexLock lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

}  // namespace thermocline::testing
