#include "worker/step_graphs.h"

#include <algorithm>

namespace thermocline::worker {
namespace {

// Attention of a bucket is launched for its longest context: of short ones, blocks that return at
// once are few; of long ones, three of four do at worst, in a small part of the others' time.
constexpr int64_t kLeastContext = 512, kContextGrowth = 4;

bool IsDecode(const kernels::StepArguments& arguments) {
  const size_t n_rows = arguments.positions.size();
  return n_rows == arguments.sequences.size() &&
         n_rows <= static_cast<size_t>(kernels::StepRecorder::kMaxRows);
}

}  // namespace

int64_t ContextBucket(int64_t n_positions) {
  int64_t bucket = kLeastContext;
  while (bucket < n_positions) bucket *= kContextGrowth;
  return bucket;
}

StepGraphs::StepGraphs(const RecordedStage& stage, GraphTable& table)
    : stage_(stage), table_(table), most_spans_(stage.layers.most_spans()) {}

StepGraphs::~StepGraphs() {
  for (GraphTable::Entry* entry : entries_) GraphTable::Release(entry);
}

GraphTable::Entry* StepGraphs::Come(int run, const kernels::StepArguments& arguments) {
  ++n_steps_;
  if (!IsDecode(arguments) || stage_.layers.IsTimed(run) || IsLook(run)) return nullptr;
  const int64_t last = *std::ranges::max_element(arguments.positions);
  return table_.Come({.place = stage_.executor.Input(run).data,
                      .n_rows = static_cast<int64_t>(arguments.positions.size()),
                      .n_positions = ContextBucket(last + 1),
                      .modes = stage_.layers.Chosen(run)});
}

Result<bool> StepGraphs::Replay(int run) {
  const kernels::StepArguments arguments = stage_.executor.ArgumentsOf(run);
  GraphTable::Entry* const entry = Come(run, arguments);
  if (entry == nullptr) return false;
  constexpr size_t kWhole = 0;
  TC_ASSIGN_OR_RETURN(const bool is_replayed, table_.Replay(entry, kWhole, arguments, [this, run] {
    return RunPrograms(run);
  }));
  if (!is_replayed) return false;
  PassLooks(run);
  ++n_replays_;
  return true;
}

bool StepGraphs::TakesSpans(int run) {
  GraphTable::Entry*& own = entries_[static_cast<size_t>(run)];
  GraphTable::Release(own);
  own = Come(run, stage_.executor.ArgumentsOf(run));
  GraphTable::Hold(own);
  if (own == nullptr || !GraphTable::IsReady(*own)) return false;
  PassLooks(run);
  return true;
}

Result<bool> StepGraphs::ReplaySpan(OpRef span, std::span<const LoweredOp> ops,
                                    const std::function<Status()>& launch) {
  const int layer = ops.front().layer_in_stage;
  if (layer == model::kNoLayer || ops.size() < kLeastSpanOps) return false;
  const size_t piece = static_cast<size_t>(layer) * most_spans_ + static_cast<size_t>(span.op);
  TC_ASSIGN_OR_RETURN(const bool is_replayed,
                      table_.Replay(entries_[static_cast<size_t>(span.run)], piece,
                                    stage_.executor.ArgumentsOf(span.run), launch));
  if (is_replayed) ++n_span_replays_;
  return is_replayed;
}

// Of what is due the counter looks at as much as there is room for; the rest stays due.
bool StepGraphs::IsLook(int run) {
  if (firing_ == nullptr || n_steps_ - last_look_ < kStepsPerLook) return false;
  for (int layer = 0; layer < stage_.layers.n_layers(); ++layer) {
    if (!stage_.layers.ListsNeurons(run, layer) || !firing_->IsDue(layer)) continue;
    last_look_ = n_steps_;
    return true;
  }
  return false;
}

void StepGraphs::PassLooks(int run) {
  if (firing_ == nullptr) return;
  for (int layer = 0; layer < stage_.layers.n_layers(); ++layer) {
    if (stage_.layers.ListsNeurons(run, layer) && !firing_->IsDue(layer)) firing_->Pass(layer);
  }
}

// While the device keeps what they launch.
Status StepGraphs::RunPrograms(int run) {
  Executor& executor = stage_.executor;
  const Executor::Recorded recorded(&executor);
  const auto finish = [&]() -> Status {
    TC_ASSIGN_OR_RETURN(const int done, executor.Advance());
    return done == run ? OkStatus() : Internal("a step to be recorded waits for others");
  };
  if (stage_.embed != nullptr) {
    executor.Start(run, *stage_.embed, nullptr);
    TC_RETURN_IF_ERROR(finish());
  }
  stage_.layers.Begin(run, &executor, &stage_.kv);
  do {
    TC_RETURN_IF_ERROR(finish());
  } while (stage_.layers.Next(run, &executor, &stage_.kv));
  return OkStatus();
}

}  // namespace thermocline::worker
