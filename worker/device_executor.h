// The executor of a device: calls its ops on the slots of a run.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "kernels/device.h"
#include "model/config.h"
#include "worker/batch_run.h"
#include "worker/dispatcher.h"
#include "worker/firing_counter.h"
#include "worker/firing_looks.h"
#include "worker/stage_group.h"
#include "worker/tracer.h"

namespace thermocline::worker {

// Sees the values of a run as they are computed; for profiling. Called on the step thread, between
// ops, so its time is the step's.
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  // Before the first op of a program, such as a layer: what lay before it belongs to no op.
  virtual void OnRun() {}
  // After `op`: its first input, empty when it has none, and its output, with the rows of the
  // batch. Both are valid during the call only; an op that works in place shows one value twice.
  virtual void OnOp(const LoweredOp& op, TensorView input, TensorView output) = 0;
};

// Has the device run the ops of a span as one.
class SpanReplayer {
 public:
  virtual ~SpanReplayer() = default;
  // True: what `launch` would put into the device's queue was put there. False: nothing was done.
  // `launch` is called while the device keeps what is launched; its errors are returned.
  virtual Result<bool> ReplaySpan(OpRef span, std::span<const LoweredOp> ops,
                                  const std::function<Status()>& launch) = 0;
};

// Ops of a CPU are done when Start returns; those of a device with memory of its own are then in
// its queue, which keeps their order, so that they count as done for all who go on in that queue.
// Step thread only.
class DeviceExecutor final : public OpExecutor {
 public:
  // `runs` by number, for batches of at most `max_rows` rows; all outlive it.
  DeviceExecutor(const model::ModelConfig& config, kernels::Device& device,
                 std::vector<BatchRun>* runs, int max_rows);

  // `observer` must outlive it; null: nobody watches.
  void set_observer(OpObserver* observer) { observer_ = observer; }
  OpObserver* observer() const { return observer_; }
  // The same.
  void set_firing(FiringCounter* firing);
  // The same; null: no program has ops of a group.
  void set_group(StageGroup* group) { group_ = group; }
  // The same; null: no run is in spans.
  void set_replayer(SpanReplayer* replayer) { replayer_ = replayer; }
  // While ops are kept instead of run, they are all that is asked of the device.
  void set_recording(bool is_recording) { is_recording_ = is_recording; }
  // The rows of a table of learned positions that a batch takes; none without such a table. Valid
  // until the next call, or op, for other rows.
  std::span<const int32_t> PositionIds(const BatchRows& rows);
  // Outlives it; null: nobody traces. `first_layer` is the stage's.
  void set_tracer(Tracer* tracer, int first_layer);

  Result<bool> Start(OpRef op) override;
  Result<bool> Poll(OpRef*) override { return false; }

 private:
  // So few ops are put into the device's queue before the oldest of them are done that no call of
  // its driver waits for room there, which nobody could end. Errors of Device::Wait.
  Status AwaitRoom();
  Result<bool> StartSpan(OpRef ref);
  // One op of the run, which is number `ref` or of that span.
  Status RunOp(OpRef ref, const LoweredOp& op);
  Status RunInGroup(const BatchRun& run, const LoweredOp& op);
  Status CallGroup(const BatchRun& run, const LoweredOp& op, TensorView x);
  void RunTraced(const BatchRun& run, const LoweredOp& op);
  void RunTimed(OpRef ref, BatchRun* run);
  void TimeInQueue(OpRef ref, BatchRun* run);
  void StopTiming();
  Status Show(const BatchRun& run, const LoweredOp& op);
  TensorView CopyOf(TensorView value, std::vector<std::byte>* memory);
  void Run(const BatchRun& run, const LoweredOp& op);
  void RunNeurons(const BatchRun& run, const LoweredOp& op, TensorView a);
  void RunAxpyRows(const BatchRun& run, const LoweredOp& op);
  void RunEmbedPosition(const LoweredOp& op, const BatchRows& rows, TensorView x);
  void RunNorm(const LoweredOp& op, TensorView x, TensorView y);
  void RunRope(const LoweredOp& op, const BatchRows& rows, TensorView q, TensorView k);
  void RunAttention(const LoweredOp& op, const BatchRun& run, TensorView y);

  const model::ModelConfig* config_;
  kernels::Device* device_;
  const bool is_apart_;  // the device has memory of its own
  std::vector<BatchRun>* runs_;
  OpObserver* observer_ = nullptr;
  FiringCounter* firing_ = nullptr;
  bool is_recording_ = false;
  SpanReplayer* replayer_ = nullptr;
  StageGroup* group_ = nullptr;
  Tracer* tracer_ = nullptr;
  int first_layer_ = 0;
  uint32_t track_ = 0;
  const SteadyClock clock_;            // what the FFN's time is measured by
  std::vector<int32_t> position_ids_;  // rows of the table of learned positions; max_rows fit
  // Of a device with memory of its own: what the counter and the observer see.
  FiringLooks looks_;
  std::vector<std::byte> seen_input_, seen_output_;
  OpRef timed_since_;  // the op with which the time being measured began; no run: none is
  TimePoint timed_begin_;
  // Of a device with memory of its own: marks in its queue, each kOpsPerMark ops behind the last.
  static constexpr size_t kMarks = 4;
  uint64_t n_ops_ = 0;
  std::array<kernels::WorkMark, kMarks> marks_{};
};

}  // namespace thermocline::worker
