// Decode steps of a stage that come again and again in one shape, replayed by the device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/status.h"
#include "worker/executor.h"
#include "worker/firing_counter.h"
#include "worker/graph_table.h"
#include "worker/kv_cache.h"
#include "worker/layer_stack.h"
#include "worker/program.h"

namespace thermocline::worker {

// What is recorded and what runs it; all of it outlives the graphs and stays where it is.
struct RecordedStage {
  Executor& executor;
  LayerStack& layers;
  KvCache& kv;
  const Program* embed = nullptr;  // null: another stage embeds
};

// Which steps come in a shape that graphs are for: the number of rows, how long the sequences may
// be, and the modes of the layers. Step thread only.
class StepGraphs final : public SpanReplayer {
 public:
  // The table outlives them.
  StepGraphs(const RecordedStage& stage, GraphTable& table);
  ~StepGraphs() override;
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // Outlives them.
  void set_firing(FiringCounter* firing) { firing_ = firing; }

  // Of a stage that waits for nobody, for a run whose input is there, whose modes are chosen and
  // which is at no program yet: true when what its layers give was put into the device's queue;
  // false when nothing was done, and its programs are to be run. Errors as Executor::Advance.
  Result<bool> Replay(int run);

  // Of a stage that waits for others in its layers, for a run whose modes are chosen and which is
  // at no program yet: whether its programs are to be run in spans, with this as their replayer.
  bool TakesSpans(int run);
  // Of layers; what is so short that it gains nothing is left alone.
  Result<bool> ReplaySpan(OpRef span, std::span<const LoweredOp> ops,
                          const std::function<Status()>& launch) override;

  // Whole steps, and spans of others.
  int64_t n_replays() const { return n_replays_; }
  int64_t n_span_replays() const { return n_span_replays_; }
  // Recordings that there are, of the whole stage.
  int64_t n_graphs() const { return table_.n_graphs(); }

  // A step that counts which neurons fire is as ever; of those that could one in so many is.
  static constexpr int kStepsPerLook = 8;
  // Ops of a span that is replayed, at least. To launch a graph takes a host about as long as to
  // launch two or three kernels: assumed, not measured.
  static constexpr size_t kLeastSpanOps = 4;

 private:
  // Of the shape that the run's step has; null when it is to be as ever.
  GraphTable::Entry* Come(int run, const kernels::StepArguments& arguments);
  bool IsLook(int run);
  void PassLooks(int run);
  Status RunPrograms(int run);

  const RecordedStage stage_;
  GraphTable& table_;
  FiringCounter* firing_ = nullptr;
  int64_t n_steps_ = 0;
  int64_t last_look_ = 0;
  int64_t n_replays_ = 0;
  int64_t n_span_replays_ = 0;
  size_t most_spans_ = 0;  // of a layer
  // By run, of the last that was in spans; held.
  std::array<GraphTable::Entry*, kMaxRuns> entries_{};
};

// How long sequences of a bucket are at most, of which one has n_positions: 512, 2048, 8192, ...
int64_t ContextBucket(int64_t n_positions);

}  // namespace thermocline::worker
