#include "worker/dispatcher.h"

namespace thermocline::worker {

// Links come first: what they send, others wait for, and what has arrived may be of an older run
// than what the device would compute next.
Result<int> Dispatcher::Advance() {
  while (true) {
    const uint64_t before = queue_->n_completed();
    for (const Unit unit : {Unit::kLink, Unit::kDevice}) {
      TC_ASSIGN_OR_RETURN(const int started, StartReady(unit));
      if (started != kNoRun) return started;
      TC_ASSIGN_OR_RETURN(const int collected, CollectDone(unit));
      if (collected != kNoRun) return collected;
    }
    if (queue_->n_completed() == before) return kNoRun;
  }
}

Result<int> Dispatcher::CollectDone(Unit unit) {
  OpRef op;
  while (true) {
    TC_ASSIGN_OR_RETURN(const bool done, executors_[static_cast<size_t>(unit)]->Poll(&op));
    if (!done) return kNoRun;
    if (queue_->Complete(op)) return op.run;
  }
}

// All that links can start; of the device one op at a time, after which links have their turn.
Result<int> Dispatcher::StartReady(Unit unit) {
  OpRef op;
  while (queue_->Take(unit, &op)) {
    TC_ASSIGN_OR_RETURN(const bool done, executors_[static_cast<size_t>(unit)]->Start(op));
    if (done && queue_->Complete(op)) return op.run;
    if (done && unit == Unit::kDevice) return kNoRun;
  }
  return kNoRun;
}

}  // namespace thermocline::worker
