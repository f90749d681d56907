#include "worker/ready_queue.h"

#include <algorithm>

#include "base/check.h"

namespace thermocline::worker {

ReadyQueue::ReadyQueue(int max_runs) : runs_(static_cast<size_t>(max_runs)) {
  by_age_.reserve(runs_.size());
}

void ReadyQueue::Enter(int run) {
  DCHECK(!IsUnderWay(run));
  runs_[static_cast<size_t>(run)].n_ordered = 0;
  by_age_.push_back(run);
}

void ReadyQueue::Leave(int run) {
  DCHECK(runs_[static_cast<size_t>(run)].n_left == 0);
  std::erase(by_age_, run);
}

void ReadyQueue::Start(int run, const OpDag& dag) {
  Run& state = runs_[static_cast<size_t>(run)];
  DCHECK(state.n_left == 0);
  state.dag = &dag;
  state.n_left = dag.size();
  state.ready = {dag.roots(Unit::kDevice), dag.roots(Unit::kLink)};
  std::copy(dag.prerequisites().begin(), dag.prerequisites().end(), state.missing.begin());
}

bool ReadyQueue::Take(Unit unit, OpRef* op) {
  static const OpSet kNone;
  const Run* older = nullptr;
  for (const int run : by_age_) {
    Run& state = runs_[static_cast<size_t>(run)];
    if (state.n_left > 0) {
      // The run before has itself waited for those before it.
      const bool is_held = older != nullptr && older->n_ordered <= state.n_ordered;
      OpSet& ready = state.ready[static_cast<size_t>(unit)];
      const int found = ready.FirstWithout(is_held ? state.dag->ordered() : kNone);
      if (found >= 0) {
        ready.Remove(found);
        *op = {run, found};
        return true;
      }
    }
    older = &state;
  }
  return false;
}

bool ReadyQueue::Complete(OpRef op) {
  Run& state = runs_[static_cast<size_t>(op.run)];
  for (const uint16_t next : state.dag->dependents(op.op)) {
    if (--state.missing[next] > 0) continue;
    state.ready[static_cast<size_t>(state.dag->unit(next))].Add(next);
  }
  if (state.dag->ordered().Has(op.op)) ++state.n_ordered;
  ++n_completed_;
  return --state.n_left == 0;
}

}  // namespace thermocline::worker
