// Runs the programs of a stage over the batches under way in it: whatever is ready on its device
// and its links, the oldest batch first.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"
#include "model/config.h"
#include "placement/plan.h"
#include "worker/batch_run.h"
#include "worker/device_executor.h"
#include "worker/dispatcher.h"
#include "worker/host_rows.h"
#include "worker/link_executor.h"
#include "worker/ready_queue.h"

namespace thermocline::worker {

// Batches under way in one stage: what a plan may ask for.
inline constexpr int kMaxRuns = placement::kMaxMicroBatches;

struct ExecutorOptions {
  int64_t scratch_cols = 0;  // of the widest program
  int max_rows = 1;          // of all batches under way together
  int max_runs = 1;          // batches under way, 1..kMaxRuns
  int n_members = 1;         // that share a layer of the programs, this one included
  int64_t heads_cols = 0;    // the most columns of heads that they send; 0: they share none
};

// Owns the scratch region, of which each run has rows of its own. On a device with memory of its
// own, ops of the device count as done when they are in its queue. Step thread only.
class Executor {
 public:
  Executor(const Executor&) = delete;  // its parts point at it
  ~Executor();                         // waits for what is in the device's queue
  // The device outlives it; kResourceExhausted when it has no memory for the scratch, or
  // gives none of the host's.
  static Result<std::unique_ptr<Executor>> Create(const model::ModelConfig& config,
                                                  kernels::Device& device,
                                                  const ExecutorOptions& options);

  // `observer` must outlive the executor; null: nobody watches.
  void set_observer(OpObserver* observer) { device_.set_observer(observer); }
  // `firing` must outlive the executor; null: nobody counts.
  void set_firing(FiringCounter* firing) { device_.set_firing(firing); }
  // Outlives the executor; null: nobody traces. `first_layer` is the stage's.
  void set_tracer(Tracer* tracer, int first_layer) {
    device_.set_tracer(tracer, first_layer);
    links_.set_tracer(tracer, first_layer);
  }
  // Outlives the executor; needed by programs that send and receive.
  void set_exchange(PartExchange* exchange) { links_.set_exchange(exchange); }
  // Outlives the executor; needed by programs with sums over a group. The device waits for what is
  // in its queue through the group (PeerDevice).
  void set_group(StageGroup* group) { device_.set_group(group); }

  // Whether a batch of 1 row or more can be opened now.
  bool HasRoom(int64_t n_rows) const;
  // Begins a run, the youngest; there is room.
  int Open(const BatchRows& rows, int64_t n_rows, StepId step = {});
  // Ends the oldest run, which is between programs. What it has left in its rows stays until the
  // next Open.
  void Close();
  // What the ops of an open run take from the host; valid until the next call, with its rows.
  kernels::StepArguments ArgumentsOf(int run);
  // While there is one, the device keeps ops instead of running them (kernels/step_recorder.h), of
  // programs that wait for nobody: Advance asks nothing else of it.
  class Recorded {
   public:
    explicit Recorded(Executor* executor) : device_(executor->device_) {
      device_.set_recording(true);
    }
    ~Recorded() { device_.set_recording(false); }
    Recorded(const Recorded&) = delete;
    Recorded& operator=(const Recorded&) = delete;

   private:
    DeviceExecutor& device_;
  };
  // From its next Start on, ops of an open run are handed out in spans (worker/op_spans.h), of
  // which `replayer`, the same for all runs, may replay some. It outlives the executor's work.
  void TakeSpans(int run, SpanReplayer* replayer);
  // The run's next program, which reads slot 0 as input and leaves the result in its output slot;
  // the one before is done. `kv` may be null when it has no attention. Timed: see FfnTime.
  void Start(int run, const Program& program, KvCache* kv, bool times_ffn = false);
  // Carries on until a program is done and returns its run, or kNoRun when all that is left waits
  // for links. Errors are those of the exchange.
  Result<int> Advance() { return dispatcher_.Advance(); }
  // Where only the device keeps a send from going: waits for it. False: none is to be sent.
  Result<bool> AwaitSend() { return links_.AwaitSend(); }
  // Ops done so far; moves whenever Advance has done something.
  uint64_t n_ops_done() const { return queue_.n_completed(); }

  // x[n_rows, n_embd], the input of every program of a run, in the same place, in the device's
  // memory.
  TensorView Input(int run) const;
  // Gives a run the input that begins it, from host memory.
  void SetInput(int run, TensorView x);
  // When its last program is done: the copy of Input to host memory goes into the queue at once,
  // before what younger runs put there.
  void StartFetch(int run);
  // The same for an Input that is to stay in the device's memory.
  void MarkEnd(int run);
  // Waits until what MarkEnd has marked is there, and for nothing behind it. Errors as FetchInput.
  Status AwaitEnd(int run);
  // Where Input is, or that copy, valid until the next Open after the run's end. Waits for it and
  // for nothing behind it. kUnavailable when the device is lost.
  Result<TensorView> FetchInput(int run);
  // Whether the device has memory of its own.
  bool is_apart() const { return host_rows_.has_value(); }
  // A slot of the run's last program.
  TensorView View(int run, int slot) const { return At(run).View(slot); }
  // What the device spent on the FFN of the run's last program; nullopt when that was not asked
  // for, or work of other runs came between.
  std::optional<Duration> FfnTime(int run) const {
    return At(run).times_ffn ? std::optional(At(run).ffn_time) : std::nullopt;
  }

 private:
  Executor(const model::ModelConfig& config, kernels::Device& device,
           const ExecutorOptions& options);
  const BatchRun& At(int run) const { return runs_[static_cast<size_t>(run)]; }
  int FreeRun() const;
  bool AreFree(int64_t first_row, int64_t n_rows) const;
  int64_t FindRows(int64_t n_rows) const;

  const int64_t n_embd_;
  const ExecutorOptions options_;
  kernels::Device& on_;
  std::vector<BatchRun> runs_;  // by number
  ReadyQueue queue_;
  DeviceExecutor device_;
  LinkExecutor links_;
  Dispatcher dispatcher_;
  Buffer scratch_;
  std::optional<HostRows> host_rows_;  // of a device with memory of its own
};

}  // namespace thermocline::worker
