// A link with added latency, a limited rate and lost frames.
#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "base/str.h"
#include "comm/link.h"

namespace thermocline::comm {
namespace {

// In front of each header: when the frame becomes visible, nanoseconds of the machine's clock.
using Stamp = int64_t;
// A stamp further from now than this was not made by this machine's clock.
constexpr Duration kMaxHold = std::chrono::seconds(30);

// Owns the decorated link. Step thread only, like the link itself.
class ShapedLink final : public Link {
 public:
  ShapedLink(std::unique_ptr<Link> link, const ShapingOptions& options)
      : link_(std::move(link)), options_(options) {}

  WorkerId peer() const override { return link_->peer(); }
  LinkStats stats() const override { return link_->stats(); }

  Status Send(const FrameView& frame, TimePoint deadline) override {
    if (frame.header.size() + sizeof(Stamp) > kMaxHeaderBytes) return CheckStampedHeader(frame);
    TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
    const TimePoint was_free_at = free_at_;
    const Stamp visible_at = VisibleAt(EncodedFrameBytes(frame)).since_start.count();
    if (UniformAt(options_.seed, n_sent_++) < options_.drop_rate) return OkStatus();
    stamped_header_.resize(sizeof(visible_at) + frame.header.size());
    std::memcpy(stamped_header_.data(), &visible_at, sizeof(visible_at));
    std::copy(frame.header.begin(), frame.header.end(),
              stamped_header_.begin() + sizeof(visible_at));
    const Status sent = link_->Send({stamped_header_, frame.payload}, deadline);
    if (!sent.ok()) {  // the same frame may be sent again
      free_at_ = was_free_at;
      --n_sent_;
    }
    return sent;
  }

  Result<bool> Flush() override { return link_->Flush(); }

  Status Receive(Frame* frame, TimePoint deadline) override {
    if (!held_until_) {
      TC_RETURN_IF_ERROR(link_->Receive(&held_, deadline));
      TC_RETURN_IF_ERROR(Hold());
    }
    const SteadyClock clock;
    while (clock.Now() < *held_until_) {
      if (clock.Now() >= deadline) {
        return DeadlineExceeded(Str("no frame in time:", Kv("peer", peer())));
      }
      SleepUntil(std::min(*held_until_, deadline));
    }
    held_until_.reset();
    std::swap(*frame, held_);
    return OkStatus();
  }

 private:
  // The scheduler wakes a sleeper 50 us late and more; the rest of the wait is spent awake.
  static constexpr Duration kSleepSlack = std::chrono::microseconds(100);

  static void SleepUntil(TimePoint until) {
    const Duration left = until - SteadyClock().Now();
    if (left > kSleepSlack) {
      std::this_thread::sleep_for(left - kSleepSlack);
    } else {
      std::this_thread::yield();
    }
  }

  static Status CheckStampedHeader(const FrameView& frame) {
    return InvalidArgument(
        Str("frame header over its limit:", Kv("header_bytes", frame.header.size()),
            Kv("limit", kMaxHeaderBytes - sizeof(Stamp))));
  }

  // Frames leave one after another at the given rate; each is visible `latency` after its last byte
  // has left.
  TimePoint VisibleAt(size_t n_bytes) {
    TimePoint leaves = std::max(SteadyClock().Now(), free_at_);
    if (options_.bytes_per_s > 0) {
      leaves = leaves + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                            static_cast<double>(n_bytes) / options_.bytes_per_s));
    }
    free_at_ = leaves;
    return leaves + options_.latency;
  }

  // Takes the stamp off the frame just received and decides when to show the frame.
  Status Hold() {
    Stamp visible_at = 0;
    if (held_.header.size() < sizeof(visible_at)) {
      return DataLoss(Str("frame of a shaped link has no stamp:", Kv("peer", peer())));
    }
    std::memcpy(&visible_at, held_.header.data(), sizeof(visible_at));
    held_.header.erase(held_.header.begin(), held_.header.begin() + sizeof(visible_at));
    const TimePoint now = SteadyClock().Now();
    const TimePoint stamped{Duration{visible_at}};
    const bool same_clock = stamped < now + kMaxHold && now < stamped + kMaxHold;
    held_until_ = same_clock ? stamped : now + options_.latency;
    return OkStatus();
  }

  const std::unique_ptr<Link> link_;
  const ShapingOptions options_;
  TimePoint free_at_;  // when the wire has sent everything handed to it
  uint64_t n_sent_ = 0;
  std::vector<std::byte> stamped_header_;
  Frame held_;
  std::optional<TimePoint> held_until_;
};

// Owns the decorated port. Step thread only, like the port itself.
class ShapedPort final : public DataPort {
 public:
  ShapedPort(std::unique_ptr<DataPort> port, const ShapingOptions& options)
      : port_(std::move(port)), options_(options) {}

  Transport transport() const override { return port_->transport(); }
  std::string address() const override { return port_->address(); }
  void SetSelf(WorkerId self) override { port_->SetSelf(self); }
  Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->Open(peer, peer_address));
    return ShapeLink(std::move(link), options_);
  }
  Result<std::unique_ptr<Link>> OpenWithin(WorkerId peer, const std::string& peer_address,
                                           Duration patience) override {
    TC_ASSIGN_OR_RETURN(auto link, port_->OpenWithin(peer, peer_address, patience));
    return ShapeLink(std::move(link), options_);
  }

 private:
  const std::unique_ptr<DataPort> port_;
  const ShapingOptions options_;
};

}  // namespace

std::unique_ptr<DataPort> ShapePort(std::unique_ptr<DataPort> port, const ShapingOptions& options) {
  return std::make_unique<ShapedPort>(std::move(port), options);
}

std::unique_ptr<Link> ShapeLink(std::unique_ptr<Link> link, const ShapingOptions& options) {
  return std::make_unique<ShapedLink>(std::move(link), options);
}

}  // namespace thermocline::comm
