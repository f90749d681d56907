// Carries the events of one request's sequences from the engine thread to the request's strand.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "coordinator/generation_service.h"

namespace thermocline::coordinator::http {

struct SequenceEvent {
  int sequence = 0;  // index within the request
  GenerationEvent event;
};

// Shared by the request and the sinks that the engine holds, because either may end first.
// Holds at most one event per token of the request's sequences, which the context bounds.
// Thread-safe.
class EventInbox : public std::enable_shared_from_this<EventInbox> {
 public:
  // `wake` must not wait. It is called under the inbox's lock whenever events wait and it has not
  // been called since the last Take, and never after Close.
  explicit EventInbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  // The sink of one sequence; keeps the inbox alive.
  std::shared_ptr<GenerationSink> MakeSink(int sequence);

  std::vector<SequenceEvent> Take();
  // Drops what waits and what comes.
  void Close();

 private:
  class Sink;
  void Push(int sequence, const GenerationEvent& event);

  Mutex mutex_;
  std::function<void()> wake_ GUARDED_BY(mutex_);
  std::vector<SequenceEvent> events_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace thermocline::coordinator::http
