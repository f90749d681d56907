// A doorbell that can be polled together with sockets.
#pragma once

#include "base/status.h"

namespace thermocline::comm {

// Owns an eventfd. Ring is thread-safe; Silence belongs to the waiting thread.
class WakeEvent {
 public:
  // kUnavailable when the system is out of file descriptors.
  static Result<WakeEvent> Create();
  ~WakeEvent();
  WakeEvent(WakeEvent&& other) noexcept;
  WakeEvent& operator=(WakeEvent&&) = delete;

  // Makes fd() readable until Silence; ringing twice is ringing once.
  void Ring();
  void Silence();
  int fd() const { return fd_; }

 private:
  explicit WakeEvent(int fd) : fd_(fd) {}

  int fd_ = -1;
};

}  // namespace thermocline::comm
