// Which ops may start: those of all runs under way whose prerequisites are done, in one queue.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "worker/op_dag.h"

namespace thermocline::worker {

inline constexpr int kNoRun = -1;

// An op of the program that a run is at, or a span of them (BatchRun::in_spans).
struct OpRef {
  int run = kNoRun;
  int op = 0;
  friend bool operator==(const OpRef&, const OpRef&) = default;
};

// A run is one batch on its way through the programs of a stage, one after another. Older runs come
// first, and within a run the ops in the order of their list: with one run and one unit that is the
// order of the list itself. Nothing is allocated after construction. Thread-compatible.
class ReadyQueue {
 public:
  // Runs have the numbers 0 to max_runs - 1.
  explicit ReadyQueue(int max_runs);

  // Begins a run, the youngest from now on; its number must be free.
  void Enter(int run);
  // Ends a run that has no program under way.
  void Leave(int run);
  // The run's next program; the one before must be done. `dag` outlives it.
  void Start(int run, const OpDag& dag);

  // The first op that may start on `unit`, which must then be started; false: none.
  bool Take(Unit unit, OpRef* op);
  // An op that was taken is done; true when it was the last of its program.
  bool Complete(OpRef op);

  int n_runs() const { return static_cast<int>(by_age_.size()); }
  bool IsUnderWay(int run) const {
    return std::find(by_age_.begin(), by_age_.end(), run) != by_age_.end();
  }
  // The runs that entered first and last; there is one.
  int oldest() const { return by_age_.front(); }
  int youngest() const { return by_age_.back(); }
  // Ops completed so far, of all runs.
  uint64_t n_completed() const { return n_completed_; }

 private:
  struct Run;
  // Ops of `run` that must not start yet, `older` being the run before it.
  OpSet Held(int run, const Run* older) const;

  struct Run {
    const OpDag* dag = nullptr;
    int n_left = 0;         // ops of the program that are not done
    int64_t n_ordered = 0;  // ordered ops done, over all programs
    std::array<OpSet, kUnits> ready;
    std::array<uint16_t, kMaxOps> missing = {};  // by op: prerequisites that are not done
  };

  std::vector<Run> runs_;
  std::vector<int> by_age_;  // the oldest first
  int in_section_ = kNoRun;
  uint64_t n_completed_ = 0;
};

}  // namespace thermocline::worker
