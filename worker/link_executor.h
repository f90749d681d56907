// The executor of links: sends at once, and looks for what is to be received.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "worker/batch_run.h"
#include "worker/dispatcher.h"
#include "worker/host_rows.h"
#include "worker/part_key.h"
#include "worker/tracer.h"

namespace thermocline::worker {

// Moves values between the members of a stage that share a layer, from and to host memory: x from
// the lead to its helpers, sums from them to the lead; x before the attention too, and y of their
// heads, where they share these. What a member has no use for is kInternal.
// Sends may return before the others have it. Receives take what has arrived, or give false, and
// never wait; any error is the end of the stage: kDataLoss when a frame is another one than was
// asked for. Step thread only.
class PartExchange {
 public:
  virtual ~PartExchange() = default;
  // Of the lead: to every helper of the layer. `rows` are what the rows of x are.
  virtual Status SendX(PartKey key, TensorView x, const BatchRows& rows);
  // Of the lead: from member `peer` of the layer, 1 or more.
  virtual Result<bool> TryReceiveSums(PartKey key, int peer, kernels::SumsView sums);
  // The same of y[n_rows, columns of its heads].
  virtual Result<bool> TryReceiveHeads(PartKey key, int peer, TensorView y);
  // Of a helper.
  virtual Result<bool> TryReceiveX(PartKey key, TensorView x);
  virtual Status SendSums(PartKey key, kernels::SumsView sums);
  virtual Status SendHeads(PartKey key, TensorView y);
};

// Step thread only.
class LinkExecutor final : public OpExecutor {
 public:
  // `runs` by number; they outlive it, as does the device, whose slots they are.
  LinkExecutor(kernels::Device& device, std::vector<BatchRun>* runs);

  // Outlives it; needed by programs that send and receive.
  void set_exchange(PartExchange* exchange) { exchange_ = exchange; }

  // Where values pass through that lie in a device's own memory; outlives it. Null: the slots are
  // host memory.
  void set_host_rows(const HostRows* host_rows) { host_rows_ = host_rows; }

  // Outlives it; null: nobody traces. `first_layer` is the stage's.
  void set_tracer(Tracer* tracer, int first_layer);

  // A receive is under way until Poll finds that its x has come, and a send, where values pass
  // through the host, until its x is there. Poll tells the device's errors too.
  Result<bool> Start(OpRef op) override;
  Result<bool> Poll(OpRef* op) override;
  // Waits until the x of the oldest send under way is in host memory; false: none is under way.
  Result<bool> AwaitSend();

 private:
  struct UnderWay {
    OpRef ref;
    TimePoint since;             // when tracing
    kernels::WorkMark mark = 0;  // of a send: behind the copy of its x
  };
  void StartCopy(const BatchRun& run, const LoweredOp& op, UnderWay* send);
  Result<bool> PollSend(OpRef* done);
  Result<bool> PollReceives(OpRef* done);
  Status Send(const UnderWay& send);
  Result<bool> TryReceive(const BatchRun& run, const LoweredOp& op);
  const BatchRun& RunOf(OpRef ref) const { return (*runs_)[static_cast<size_t>(ref.run)]; }
  void Trace(const BatchRun& run, const LoweredOp& op, uint32_t track, TimePoint begin);

  kernels::Device& device_;
  std::vector<BatchRun>* runs_;
  PartExchange* exchange_ = nullptr;
  const HostRows* host_rows_ = nullptr;
  // In the order of their starts.
  std::vector<UnderWay> sending_, receiving_;
  Tracer* tracer_ = nullptr;
  int first_layer_ = 0;
};

}  // namespace thermocline::worker
