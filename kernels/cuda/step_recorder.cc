#include "kernels/cuda/step_recorder.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/str.h"

namespace thermocline::kernels::cuda {
namespace {

// That attention reads, of all sequences.
uint64_t PositionsRead(const StepArguments& arguments) {
  uint64_t n = 0;
  for (const SequenceRows& rows : arguments.sequences) {
    n += static_cast<uint64_t>(rows.first_position + rows.n_tokens);
  }
  return n;
}

}  // namespace

CudaStepRecorder::~CudaStepRecorder() {
  for (const Kept& kept : kept_) queue_.runtime().DropRecording(kept.id);
}

Status CudaStepRecorder::Reserve(const StepBounds& bounds) {
  if (!places_.MustMove(bounds)) return OkStatus();
  if (!kept_.empty()) TC_RETURN_IF_ERROR(queue_.Wait(queue_.Mark()));
  for (const Kept& kept : kept_) queue_.runtime().DropRecording(kept.id);
  kept_.clear();
  return places_.Reserve(bounds);
}

Status CudaStepRecorder::Begin(const StepArguments& arguments, int64_t n_positions) {
  DCHECK(!is_recording_);
  if (queue_.has_failed()) return Unavailable("the device has failed before");
  if (!places_.Set(arguments, {})) {
    return InvalidArgument(Str("no room for the arguments of a step:",
                               Kv("rows", arguments.positions.size()), Kv("max_rows", kMaxRows)));
  }
  TC_RETURN_IF_ERROR(queue_.runtime().BeginRecording());
  is_recording_ = true;
  n_positions_ = n_positions;
  traffic_before_ = traffic_.sums();
  positions_read_ = PositionsRead(arguments);
  return OkStatus();
}

Result<Recording> CudaStepRecorder::End(int64_t max_launches) {
  DCHECK(is_recording_);
  is_recording_ = false;
  Kept kept;
  kept.traffic = traffic_.sums() - traffic_before_;
  traffic_.Take(traffic_before_);  // nothing has run
  kept.kv_bytes_per_position =
      std::exchange(kept.traffic.kv_bytes, 0) / std::max<uint64_t>(positions_read_, 1);
  TC_ASSIGN_OR_RETURN(const Runtime::Recorded recorded,
                      queue_.runtime().EndRecording(max_launches));
  if (!places_.fits()) {
    queue_.runtime().DropRecording(recorded.number);
    return Internal("an op of a recorded step took from the host what is no argument");
  }
  kept.id = recorded.number;
  kept.takes_arguments = places_.was_asked();
  kept.constants = places_.constants();
  kept_.push_back(std::move(kept));
  return Recording{recorded.number, recorded.n_launches};
}

void CudaStepRecorder::Replay(uint32_t id, const StepArguments& arguments) {
  const auto kept = std::ranges::find(kept_, id, &Kept::id);
  DCHECK(kept != kept_.end() && !is_recording_);
  if (kept->takes_arguments) {
    if (!places_.Set(arguments, kept->constants)) {
      return queue_.Fail(Internal("no room for the arguments of a recorded step"));
    }
    places_.Fill(uploads_);
  }
  if (queue_.has_failed()) return;
  queue_.runtime().PushRange("replay");
  queue_.runtime().EnqueueReplay(id);
  queue_.runtime().PopRange();
  Traffic read = kept->traffic;
  read.kv_bytes = kept->kv_bytes_per_position * PositionsRead(arguments);
  traffic_.Take(traffic_.sums() + read);
}

void CudaStepRecorder::Drop(uint32_t id) {
  const auto kept = std::ranges::find(kept_, id, &Kept::id);
  if (kept == kept_.end()) return;
  queue_.runtime().DropRecording(id);
  kept_.erase(kept);
}

}  // namespace thermocline::kernels::cuda
