// The executor of links: sends at once, and looks for what is to be received.
#pragma once

#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "worker/batch_run.h"
#include "worker/dispatcher.h"

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

  // A receive is under way until Poll finds that its x has come.
  Result<bool> Start(OpRef op) override;
  Result<bool> Poll(OpRef* op) override;

 private:
  std::vector<BatchRun>* runs_;
  PartExchange* exchange_ = nullptr;
  std::vector<OpRef> receiving_;  // in the order of their starts
};

}  // namespace thermocline::worker
