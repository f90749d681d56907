#include "comm/wake_event.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/str.h"

namespace thermocline::comm {

Result<WakeEvent> WakeEvent::Create() {
  const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return Unavailable(Str("cannot create an eventfd: ", std::strerror(errno)));
  return WakeEvent(fd);
}

WakeEvent::~WakeEvent() {
  if (fd_ >= 0) close(fd_);
}

WakeEvent::WakeEvent(WakeEvent&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

// A full counter fails with EAGAIN, and then the descriptor is readable already.
void WakeEvent::Ring() { eventfd_write(fd_, 1); }

void WakeEvent::Silence() {
  eventfd_t count = 0;
  eventfd_read(fd_, &count);
}

}  // namespace thermocline::comm
