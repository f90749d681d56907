// What the last stage makes of an activation's rows: their logits, or the best few of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/ids.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "worker/executor.h"
#include "worker/graph_table.h"
#include "worker/logits_reader.h"
#include "worker/program.h"

namespace thermocline::worker {

struct LogitsHeadOptions {
  int max_rows = 1;                // at once: its logits must not be sized by the step
  OpObserver* observer = nullptr;  // of all ops; outlives the head
  Tracer* tracer = nullptr;        // the same
  int first_layer = 0;             // the stage's
  GraphTable* graphs = nullptr;    // the same; null: its ops are launched one by one
};

// Step thread only.
class LogitsHead {
 public:
  // The device outlives it. Errors as Program::Lower and Executor::Create.
  static Result<std::unique_ptr<LogitsHead>> Create(const model::ModelConfig& config,
                                                    Program program, kernels::Device& device,
                                                    const LogitsHeadOptions& options);

  // Whether logits lie apart from the host, so that a few of them come instead of a vocabulary.
  bool is_apart() const { return executor_->is_apart(); }
  // Logits[rows.size(), n_vocab] of these rows of the activation in the device's memory, at most
  // max_rows; in host memory, until the next call. kUnavailable when the device is lost.
  Result<TensorView> Logits(TensorView activation, std::span<const int32_t> rows, StepId step);
  // best[rows.size(), 2 * k] as Ops::SelectBest makes them. The same; of a head that is apart.
  Result<TensorView> Best(TensorView activation, std::span<const int32_t> rows, int k, StepId step);

  // Of Best, that were replayed as one.
  int64_t n_replays() const { return n_replays_; }

 private:
  LogitsHead(Program program, kernels::Device& device, const LogitsHeadOptions& options);
  // Puts it into the device's queue; of a run that has begun.
  Status Compute(TensorView activation, std::span<const int32_t> rows, int run);
  Status ComputeBest(TensorView activation, std::span<const int32_t> rows, int k, int run);
  Result<bool> Replay(TensorView activation, std::span<const int32_t> rows, int k, int run);
  void GatherRows(TensorView activation, std::span<const int32_t> rows, TensorView x);
  TensorView LogitsOf(int run) const { return executor_->View(run, program_.output_slot()); }

  const Program program_;
  kernels::Device& device_;
  const LogitsHeadOptions options_;
  std::unique_ptr<Executor> executor_;  // scratch for max_rows
  LogitsReader reader_;
  int64_t n_replays_ = 0;
};

}  // namespace thermocline::worker
