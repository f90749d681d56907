// Hands ready ops to the executors of their units and takes back what is done.
#pragma once

#include <array>

#include "base/status.h"
#include "worker/ready_queue.h"

namespace thermocline::worker {

// Carries out the ops of one unit. Called on the step thread only, whatever it does elsewhere.
class OpExecutor {
 public:
  virtual ~OpExecutor() = default;
  // True: the op is done. False: it is under way, and a later Poll names it.
  virtual Result<bool> Start(OpRef op) = 0;
  // Names one op under way that is done; false: none is. Never waits.
  virtual Result<bool> Poll(OpRef* op) = 0;
};

// Step thread only.
class Dispatcher {
 public:
  // All outlive it.
  Dispatcher(ReadyQueue* queue, OpExecutor* device, OpExecutor* links)
      : queue_(queue), executors_{device, links} {}

  // Carries on until a program is done, and returns its run; kNoRun when all that is left waits for
  // something under way. Errors are those of the executors.
  Result<int> Advance();

 private:
  // The run whose program was ended by an op of `unit` that could be started, or that was done.
  Result<int> StartReady(Unit unit);
  Result<int> CollectDone(Unit unit);

  ReadyQueue* queue_;
  std::array<OpExecutor*, kUnits> executors_;
};

}  // namespace thermocline::worker
