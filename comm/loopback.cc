#include "comm/loopback.h"

#include <deque>
#include <map>
#include <utility>

#include "base/mutex.h"
#include "base/str.h"

namespace thermocline::comm {

// The inboxes of all mailboxes that exist, by owner. Thread-safe.
struct LoopbackMailboxHub::State {
  struct Inbox {
    std::deque<Received> messages;
    std::map<PeerId, int> n_waiting;  // by sender
    bool woken = false;
  };

  explicit State(int queue_frames_in) : queue_frames(queue_frames_in) {}

  const int queue_frames;
  Mutex mutex;
  CondVar changed;
  std::map<PeerId, Inbox> inboxes GUARDED_BY(mutex);
};

namespace {

using State = LoopbackMailboxHub::State;

class LoopbackMailbox final : public Mailbox {
 public:
  // The inbox of `self` exists and is this mailbox's to remove.
  LoopbackMailbox(std::shared_ptr<State> state, PeerId self)
      : state_(std::move(state)), self_(self) {}

  ~LoopbackMailbox() override {
    const MutexLock lock(state_->mutex);
    state_->inboxes.erase(self_);
    state_->changed.notify_all();
  }

  Status Send(PeerId to, const FrameView& frame) override {
    TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
    if (frame.payload.size() > kMaxMailboxPayloadBytes) {
      return InvalidArgument(
          Str("mailbox payload over its limit:", Kv("payload_bytes", frame.payload.size()),
              Kv("limit", kMaxMailboxPayloadBytes)));
    }
    Received message{
        self_,
        {{frame.header.begin(), frame.header.end()}, {frame.payload.begin(), frame.payload.end()}}};
    const MutexLock lock(state_->mutex);
    const auto inbox = state_->inboxes.find(to);
    // Peers reach the server only, and the server its peers.
    if (inbox == state_->inboxes.end() || IsServer() == (to == kServerPeer)) {
      return Unavailable(Str("peer is not connected:", Kv("peer", to)));
    }
    int& n_waiting = inbox->second.n_waiting[self_];
    if (n_waiting >= state_->queue_frames) {
      return ResourceExhausted(Str("peer's queue is full:", Kv("peer", to)));
    }
    ++n_waiting;
    inbox->second.messages.push_back(std::move(message));
    state_->changed.notify_all();
    return OkStatus();
  }

  Result<std::optional<Received>> Receive(TimePoint deadline) override {
    const std::chrono::steady_clock::time_point until(deadline.since_start);
    const MutexLock lock(state_->mutex);
    State::Inbox& inbox = state_->inboxes[self_];
    bool timed_out = false;
    while (true) {
      if (std::exchange(inbox.woken, false)) return std::optional<Received>();
      if (!inbox.messages.empty()) return std::optional<Received>(TakeFirst(inbox));
      if (!IsServer() && !state_->inboxes.contains(kServerPeer)) {
        return Unavailable("connection to the server is lost");
      }
      if (timed_out) return std::optional<Received>();
      timed_out = state_->changed.wait_until(state_->mutex, until) == std::cv_status::timeout;
    }
  }

  void Wake() override {
    const MutexLock lock(state_->mutex);
    state_->inboxes[self_].woken = true;
    state_->changed.notify_all();
  }

  std::vector<std::string> endpoints() const override {
    if (!IsServer()) return {};
    return {"loopback"};
  }

 private:
  bool IsServer() const { return self_ == kServerPeer; }

  static Received TakeFirst(State::Inbox& inbox) {
    Received message = std::move(inbox.messages.front());
    inbox.messages.pop_front();
    --inbox.n_waiting[message.from];
    return message;
  }

  const std::shared_ptr<State> state_;  // see LoopbackMailboxHub
  const PeerId self_;
};

}  // namespace

LoopbackMailboxHub::LoopbackMailboxHub(int queue_frames)
    : state_(std::make_shared<State>(queue_frames)) {}
LoopbackMailboxHub::~LoopbackMailboxHub() = default;

std::unique_ptr<Mailbox> LoopbackMailboxHub::MakeServer() {
  {
    const MutexLock lock(state_->mutex);
    CHECK(state_->inboxes.try_emplace(kServerPeer).second);
  }
  return std::make_unique<LoopbackMailbox>(state_, kServerPeer);
}

Result<std::unique_ptr<Mailbox>> LoopbackMailboxHub::Connect(PeerId self) {
  {
    const MutexLock lock(state_->mutex);
    if (!state_->inboxes.contains(kServerPeer)) return Unavailable("there is no server");
    if (self == kServerPeer || !state_->inboxes.try_emplace(self).second) {
      return InvalidArgument(Str("peer id is taken:", Kv("peer", self)));
    }
  }
  return std::unique_ptr<Mailbox>(std::make_unique<LoopbackMailbox>(state_, self));
}

}  // namespace thermocline::comm
