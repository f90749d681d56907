// The order of a device's work: marks in it, what was counted before each, and what has gone wrong.
#pragma once

#include <algorithm>
#include <string>

#include "base/status.h"
#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/runtime.h"
#include "kernels/device.h"

namespace thermocline::kernels::cuda {

// Owned by the device, lent to its ops. Thread-compatible.
class WorkQueue {
 public:
  // `sums` is counted in by the device, in its memory; `copies` is page-locked, for kEvents of it.
  WorkQueue(Runtime& runtime, TrafficSums* sums, TrafficSums* copies)
      : runtime_(runtime), sums_(sums), copies_(copies) {}

  Runtime& runtime() { return runtime_; }
  TrafficSums* sums() { return sums_; }

  WorkMark Mark() {
    const int slot = SlotOf(++last_);
    runtime_.EnqueueCopyToHost(reinterpret_cast<std::byte*>(sums_),
                               reinterpret_cast<std::byte*>(copies_ + slot), sizeof(TrafficSums));
    runtime_.RecordEvent(slot);
    return last_;
  }
  bool IsDone(WorkMark mark) { return mark == 0 || runtime_.IsEventDone(KeptSlot(mark)); }
  // What was counted before a mark that is done, or before a later one.
  TrafficSums SumsAt(WorkMark mark) const { return copies_[KeptSlot(mark)]; }
  Status Wait(WorkMark mark) {
    if (mark != 0) Fail(runtime_.WaitForEvent(KeptSlot(mark)));
    Fail(runtime_.Error());
    return error_;
  }

  // Keeps the first error; the device's ops do nothing any more.
  void Fail(const Status& error) {
    if (error_.ok() && !error.ok()) error_ = error;
  }
  bool has_failed() const { return !error_.ok(); }

 private:
  static int SlotOf(WorkMark mark) { return static_cast<int>(mark % Runtime::kEvents); }
  // The slot whose event stands for the mark: that of a later one, where its own was used again.
  int KeptSlot(WorkMark mark) const {
    const WorkMark oldest = last_ < Runtime::kEvents ? 0 : last_ - Runtime::kEvents + 1;
    return SlotOf(std::max(mark, oldest));
  }

  Runtime& runtime_;
  TrafficSums* const sums_;
  TrafficSums* const copies_;
  WorkMark last_ = 0;
  Status error_;
};

}  // namespace thermocline::kernels::cuda
