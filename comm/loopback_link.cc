// Links between workers that live in one process.
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "base/mutex.h"
#include "base/str.h"
#include "comm/data_ports.h"

namespace thermocline::comm {

// All queues of one hub. Thread-safe.
struct LoopbackHub::State {
  struct Direction {
    WorkerId from, to;
    friend auto operator<=>(const Direction&, const Direction&) = default;
  };

  Mutex mutex;
  CondVar changed;
  std::set<WorkerId> ports GUARDED_BY(mutex);
  std::map<Direction, std::deque<Frame>> queues GUARDED_BY(mutex);

  bool HasPort(WorkerId worker) {
    const MutexLock lock(mutex);
    return ports.contains(worker);
  }
};

namespace {

using State = LoopbackHub::State;

std::chrono::steady_clock::time_point ToSteady(TimePoint t) {
  return std::chrono::steady_clock::time_point(t.since_start);
}

// Step thread of its port's worker only.
class LoopbackLink final : public Link {
 public:
  LoopbackLink(std::shared_ptr<State> state, WorkerId self, WorkerId peer)
      : state_(std::move(state)), self_(self), peer_(peer) {}

  WorkerId peer() const override { return peer_; }
  LinkStats stats() const override { return stats_; }

  Status Send(const FrameView& frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
    Frame copy{{frame.header.begin(), frame.header.end()},
               {frame.payload.begin(), frame.payload.end()}};
    const MutexLock lock(state_->mutex);
    std::deque<Frame>& queue = state_->queues[{self_, peer_}];
    while (state_->ports.contains(peer_) && queue.size() >= kLinkWindowFrames) {
      if (state_->changed.wait_until(state_->mutex, ToSteady(deadline)) ==
          std::cv_status::timeout) {
        return DeadlineExceeded(
            Str("peer takes no frames:", Kv("peer", peer_), Kv("under_way", kLinkWindowFrames)));
      }
    }
    if (!state_->ports.contains(peer_)) return Lost();
    queue.push_back(std::move(copy));
    ++stats_.frames_sent;
    stats_.bytes_sent += EncodedFrameBytes(frame);
    state_->changed.notify_all();
    return OkStatus();
  }

  Status Receive(Frame* frame, TimePoint deadline) override {
    const MutexLock lock(state_->mutex);
    std::deque<Frame>& queue = state_->queues[{peer_, self_}];
    while (queue.empty()) {
      if (!state_->ports.contains(peer_)) return Lost();
      if (state_->changed.wait_until(state_->mutex, ToSteady(deadline)) ==
              std::cv_status::timeout &&
          queue.empty()) {
        return DeadlineExceeded(Str("no frame in time:", Kv("peer", peer_)));
      }
    }
    *frame = std::move(queue.front());
    queue.pop_front();
    ++stats_.frames_received;
    stats_.bytes_received += EncodedFrameBytes({frame->header, frame->payload});
    state_->changed.notify_all();
    return OkStatus();
  }

 private:
  Status Lost() const { return Unavailable(Str("peer is gone:", Kv("peer", peer_))); }

  const std::shared_ptr<State> state_;  // see LoopbackHub
  const WorkerId self_, peer_;
  LinkStats stats_;
};

// Step thread of its worker only. A worker counts as gone when its port is destroyed.
class LoopbackDataPort final : public DataPort {
 public:
  LoopbackDataPort(std::shared_ptr<State> state, WorkerId self)
      : state_(std::move(state)), self_(self) {
    const MutexLock lock(state_->mutex);
    state_->ports.insert(self_);
  }

  ~LoopbackDataPort() override {
    const MutexLock lock(state_->mutex);
    state_->ports.erase(self_);
    // What this worker never took; what it sent stays for its peers.
    std::erase_if(state_->queues, [&](const auto& entry) { return entry.first.to == self_; });
    state_->changed.notify_all();
  }

  Transport transport() const override { return Transport::kLoopback; }
  std::string address() const override { return Str("loopback:", self_); }

  Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) override {
    if (peer_address != Str("loopback:", peer)) {
      return InvalidArgument(
          Str("not this worker's loopback address: ", Printable(peer_address), Kv("peer", peer)));
    }
    if (!state_->HasPort(peer)) return Unavailable(Str("no port of worker:", Kv("peer", peer)));
    return std::unique_ptr<Link>(std::make_unique<LoopbackLink>(state_, self_, peer));
  }

 private:
  const std::shared_ptr<State> state_;  // see LoopbackHub
  const WorkerId self_;
};

}  // namespace

LoopbackHub::LoopbackHub() : state_(std::make_shared<State>()) {}
LoopbackHub::~LoopbackHub() = default;

std::unique_ptr<DataPort> LoopbackHub::MakePort(WorkerId self) {
  return std::make_unique<LoopbackDataPort>(state_, self);
}

}  // namespace thermocline::comm
