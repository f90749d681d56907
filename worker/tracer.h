// What a step thread does and waits for, and when; kept until somebody takes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "proto/messages.h"
#include "worker/program.h"

namespace thermocline::worker {

// Spans that wait to be taken: 200 ms of the fastest steps seen, at about 60 bytes each.
inline constexpr size_t kMaxPendingSpans = 1 << 16;

// Where the time of the device is shown, and of what it waits for; and that of links.
inline constexpr std::string_view kDeviceTrack = "device";
inline constexpr std::string_view kLinksTrack = "links";

// The step thread names and adds, the control thread takes. Spans beyond kMaxPendingSpans are
// counted and lost.
class Tracer {
 public:
  // The clock outlives it.
  explicit Tracer(const Clock& clock);

  TimePoint Now() const { return clock_.Now(); }
  // The number of a name, of an op and of a track, known or new; for spans.
  uint32_t Name(std::string_view name);
  uint32_t NameOf(const LoweredOp& op);
  uint32_t Track(std::string_view track);

  // `span` with its times.
  void Add(proto::TraceSpan span, TimePoint begin, TimePoint end);

  // The oldest spans, kMaxTraceSpans at most, with all names; none are left of them here.
  proto::TraceSpans Take();
  // Spans that were taken and did not arrive.
  void CountLost(size_t n);

 private:
  static uint32_t Find(std::string_view text, size_t limit, std::vector<std::string>* texts);

  const Clock& clock_;
  std::vector<int> op_names_;  // by kind and role of an op; step thread only
  Mutex mutex_;
  std::vector<std::string> names_ GUARDED_BY(mutex_);
  std::vector<std::string> tracks_ GUARDED_BY(mutex_);
  std::vector<proto::TraceSpan> spans_ GUARDED_BY(mutex_);
  uint64_t n_dropped_ GUARDED_BY(mutex_) = 0;
};

// The op's layer in the model.
inline int LayerOf(const LoweredOp& op, int first_layer) {
  return op.layer_in_stage == model::kNoLayer ? -1 : first_layer + op.layer_in_stage;
}

}  // namespace thermocline::worker
