// The executor of links: sends at once, and looks for what is to be received.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "worker/batch_run.h"
#include "worker/dispatcher.h"
#include "worker/tracer.h"

namespace thermocline::worker {

// Which x moves: several batches may be at one layer, and one batch passes it once.
struct PartKey {
  StepId step;
  int layer_in_stage = 0;
  friend bool operator==(const PartKey&, const PartKey&) = default;
};

// Moves values between the members of a stage that share a layer. Step thread only.
class PartExchange {
 public:
  virtual ~PartExchange() = default;
  // Of the lead, x to every helper of the layer; of a helper, its sum to the lead. May return
  // before they have it.
  virtual Status Send(PartKey key, TensorView x) = 0;
  // Takes x from member `peer` of the layer, the lead being 0, if it has arrived; else false. Never
  // waits. Any error is the end of the stage: kDataLoss when a frame is another one than was asked
  // for.
  virtual Result<bool> TryReceive(PartKey key, int peer, TensorView x) = 0;
};

// Step thread only.
class LinkExecutor final : public OpExecutor {
 public:
  // `runs` by number; they outlive it.
  explicit LinkExecutor(std::vector<BatchRun>* runs) : runs_(runs) {}

  // Outlives it; needed by programs that send and receive.
  void set_exchange(PartExchange* exchange) { exchange_ = exchange; }

  // Outlives it; null: nobody traces. `first_layer` is the stage's.
  void set_tracer(Tracer* tracer, int first_layer);

  // A receive is under way until Poll finds that its x has come.
  Result<bool> Start(OpRef op) override;
  Result<bool> Poll(OpRef* op) override;

 private:
  Status Send(const BatchRun& run, const LoweredOp& op);
  void Trace(const BatchRun& run, const LoweredOp& op, uint32_t track, TimePoint begin);

  std::vector<BatchRun>* runs_;
  PartExchange* exchange_ = nullptr;
  // Receives under way, in the order of their starts.
  struct Receiving {
    OpRef ref;
    TimePoint since;  // when tracing
  };
  std::vector<Receiving> receiving_;
  Tracer* tracer_ = nullptr;
  int first_layer_ = 0;
};

}  // namespace thermocline::worker
