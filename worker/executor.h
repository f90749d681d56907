// Runs programs on one device: binds slots to scratch and calls the ops in their order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"
#include "model/config.h"
#include "worker/kv_cache.h"
#include "worker/program.h"

namespace thermocline::worker {

// The rows of one batch. Borrowed for the length of a Run.
struct BatchRows {
  std::span<const int32_t> tokens;     // one per row
  std::span<const int64_t> positions;  // one per row
  std::span<const kernels::SequenceRows> sequences;
};

// Moves values between the members of a stage that share a layer. Step thread only.
class PartExchange {
 public:
  virtual ~PartExchange() = default;
  // Of the lead, x to every helper of the layer; of a helper, its sum to the lead. May return
  // before they have it.
  virtual Status Send(int layer_in_stage, TensorView x) = 0;
  // Waits for x from member `peer` of the layer, the lead being 0. Any error is the end of the
  // stage: kDataLoss when the frame is another one than this.
  virtual Status Receive(int layer_in_stage, int peer, TensorView x) = 0;
};

// Sees the values of a run as they are computed; for profiling. Called on the step thread, between
// ops, so its time is the step's.
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  // Before the first op of a run, such as a layer's FFN: what lay before it belongs to no op.
  virtual void OnRun() {}
  // After `op`: its first input, empty when it has none, and its output, with the rows of the
  // batch. Both are valid during the call only; an op that works in place shows one value twice.
  virtual void OnOp(const LoweredOp& op, TensorView input, TensorView output) = 0;
};

// Owns the scratch region. Step thread only.
class Executor {
 public:
  // Scratch for programs of up to `scratch_cols` at `max_rows` rows.
  static Result<Executor> Create(const model::ModelConfig& config, kernels::Device& device,
                                 int64_t scratch_cols, int max_rows);

  // `observer` must outlive the executor; null: nobody watches.
  void set_observer(OpObserver* observer) { observer_ = observer; }

  // Outlives the executor; needed by programs that send and receive.
  void set_exchange(PartExchange* exchange) { exchange_ = exchange; }

  // Runs ops of one program over `n_rows` rows; `kv` may be null when they have no attention. The
  // program reads slot 0 as input and leaves the result in its output slot. Errors are those of the
  // exchange.
  Status Run(const Program& program, OpRange range, const BatchRows& rows, int64_t n_rows,
             KvCache* kv);

  // The first `n_rows` rows of x[max_rows, n_embd], the input of every program, in the same place.
  TensorView Input(int64_t n_rows) const;
  // The first `n_rows` rows of a slot of `program`.
  TensorView View(const Program& program, int slot, int64_t n_rows) const;

 private:
  Executor(const model::ModelConfig& config, kernels::Device& device)
      : config_(&config), device_(&device) {}
  Status RunOp(const Program& program, const LoweredOp& op, const BatchRows& rows, int64_t n_rows,
               KvCache* kv);
  void RunNeurons(const Program& program, const LoweredOp& op, int64_t n_rows, TensorView a);
  void RunEmbedPosition(const LoweredOp& op, const BatchRows& rows, TensorView x);
  void RunNorm(const LoweredOp& op, TensorView x, TensorView y);
  void RunRope(const LoweredOp& op, const BatchRows& rows, TensorView q, TensorView k);
  void RunAttention(const LoweredOp& op, const BatchRows& rows, KvCache& kv, TensorView q,
                    TensorView k, TensorView v, TensorView y);
  kernels::ActiveIds Ids(const Program& program, int slot) const;

  const model::ModelConfig* config_;
  kernels::Device* device_;
  OpObserver* observer_ = nullptr;
  PartExchange* exchange_ = nullptr;
  Buffer scratch_;
  int64_t max_rows_ = 0;
  std::vector<int32_t> position_ids_;  // rows of the table of learned positions; max_rows_ fit
};

}  // namespace thermocline::worker
