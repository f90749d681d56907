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

OpSet ReadyQueue::Held(int run, const Run* older) const {
  const Run& state = runs_[static_cast<size_t>(run)];
  OpSet held;
  // The run before has itself waited for those before it.
  if (older != nullptr && older->n_ordered <= state.n_ordered) held = state.dag->ordered();
  if (in_section_ != kNoRun) held = held | state.dag->section_begins();
  return held;
}

bool ReadyQueue::Take(Unit unit, OpRef* op) {
  const Run* older = nullptr;
  for (const int run : by_age_) {
    Run& state = runs_[static_cast<size_t>(run)];
    if (state.n_left > 0) {
      OpSet& ready = state.ready[static_cast<size_t>(unit)];
      const int found = ready.FirstWithout(Held(run, older));
      if (found >= 0) {
        ready.Remove(found);
        if (state.dag->section_begins().Has(found)) in_section_ = run;
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
  if (state.dag->section_ends().Has(op.op)) in_section_ = kNoRun;
  ++n_completed_;
  return --state.n_left == 0;
}

}  // namespace thermocline::worker
