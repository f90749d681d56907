#include "coordinator/http/event_inbox.h"

#include <utility>

namespace thermocline::coordinator::http {

class EventInbox::Sink final : public GenerationSink {
 public:
  Sink(std::shared_ptr<EventInbox> inbox, int sequence)
      : inbox_(std::move(inbox)), sequence_(sequence) {}
  void OnEvent(const GenerationEvent& event) override { inbox_->Push(sequence_, event); }

 private:
  const std::shared_ptr<EventInbox> inbox_;
  const int sequence_;
};

std::shared_ptr<GenerationSink> EventInbox::MakeSink(int sequence) {
  return std::make_shared<Sink>(shared_from_this(), sequence);
}

void EventInbox::Push(int sequence, const GenerationEvent& event) {
  const MutexLock lock(mutex_);
  if (closed_) return;
  events_.push_back({sequence, event});
  if (events_.size() == 1) wake_();
}

std::vector<SequenceEvent> EventInbox::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(events_, {});
}

void EventInbox::Close() {
  std::function<void()> wake;  // destroyed after the lock: it may own its request
  const MutexLock lock(mutex_);
  closed_ = true;
  events_.clear();
  std::swap(wake, wake_);
}

}  // namespace thermocline::coordinator::http
