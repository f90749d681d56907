#include "worker/step_graphs.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Of what is offered; a card of 8 GiB or more gives what graphs may take.
constexpr uint64_t kGraphShare = 32;
// Of a launch at least, whatever was measured: drivers take memory in pieces, and arguments alone
// may be 4 KiB.
constexpr uint64_t kLeastLaunchBytes = uint64_t{4} << 10;
// Attention of a bucket is launched for its longest context: of short ones, blocks that return at
// once are few; of long ones, three of four do at worst, in a small part of the others' time.
constexpr int64_t kLeastContext = 512, kContextGrowth = 4;

bool IsDecode(const kernels::StepArguments& arguments) {
  const size_t n_rows = arguments.positions.size();
  return n_rows == arguments.sequences.size() &&
         n_rows <= static_cast<size_t>(kernels::StepRecorder::kMaxRows);
}

}  // namespace

uint64_t GraphBytes(uint64_t offered_bytes) {
  return std::min(kMaxGraphBytes, offered_bytes / kGraphShare);
}

int64_t ContextBucket(int64_t n_positions) {
  int64_t bucket = kLeastContext;
  while (bucket < n_positions) bucket *= kContextGrowth;
  return bucket;
}

StepGraphs::StepGraphs(const RecordedStage& stage, uint64_t memory_bytes)
    : stage_(stage), recorder_(*stage.device.recorder()), memory_bytes_(memory_bytes) {
  for (Shape& shape : shapes_) shape.modes.reserve(static_cast<size_t>(stage.layers.n_layers()));
}

StepGraphs::~StepGraphs() {
  (void)stage_.device.Synchronize();  // a device that is lost keeps what it has
  for (Shape& shape : shapes_) Drop(&shape);
}

Result<bool> StepGraphs::Replay(int run) {
  const kernels::StepArguments arguments = stage_.executor.ArgumentsOf(run);
  ++n_steps_;
  if (!IsDecode(arguments) || stage_.layers.IsTimed(run) || IsLook(run)) return false;
  Shape* const shape = Find(run, arguments);
  if (shape == nullptr) return false;
  shape->last_step = n_steps_;
  if (shape->recording.id == 0) {
    if (shape->n_seen < kComings) {
      ++shape->n_seen;
      return false;
    }
    TC_RETURN_IF_ERROR(Record(run, arguments, shape));
    if (shape->recording.id == 0) return false;
  }
  recorder_.Replay(shape->recording.id, arguments);
  PassLooks(run);
  ++n_replays_;
  return true;
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

// The shape of such a step, or the place of one that was not seen for longest; null when all have
// graphs that are in use.
StepGraphs::Shape* StepGraphs::Find(int run, const kernels::StepArguments& arguments) {
  const auto n_rows = static_cast<int64_t>(arguments.positions.size());
  const int64_t last = *std::ranges::max_element(arguments.positions);
  const int64_t n_positions = ContextBucket(last + 1);
  const std::span<const uint8_t> modes = stage_.layers.Chosen(run);
  for (Shape& shape : shapes_) {
    if (shape.n_rows == n_rows && shape.n_positions == n_positions &&
        std::ranges::equal(shape.modes, modes)) {
      return &shape;
    }
  }
  Shape* place = Oldest(false);
  if (place == nullptr) {
    place = Oldest(true);
    if (n_steps_ - place->last_step < kStaleSteps) return nullptr;
    (void)stage_.device.Synchronize();
    Drop(place);
  }
  place->n_rows = n_rows;
  place->n_positions = n_positions;
  place->modes.assign(modes.begin(), modes.end());
  place->n_seen = 0;
  return place;
}

// Of those with graphs, or of those without.
StepGraphs::Shape* StepGraphs::Oldest(bool has_graph) {
  Shape* oldest = nullptr;
  for (Shape& shape : shapes_) {
    if ((shape.recording.id != 0) != has_graph) continue;
    if (oldest == nullptr || shape.last_step < oldest->last_step) oldest = &shape;
  }
  return oldest;
}

int64_t StepGraphs::LaunchesLeft() const {
  return static_cast<int64_t>((memory_bytes_ - std::min(memory_bytes_, taken_bytes_)) /
                              launch_bytes_);
}

// As long as there are graphs that nobody uses and the next may find none.
void StepGraphs::MakeRoom() {
  while (LaunchesLeft() < most_launches_) {
    Shape* const oldest = Oldest(true);
    if (oldest == nullptr || n_steps_ - oldest->last_step < kStaleSteps) return;
    (void)stage_.device.Synchronize();
    Drop(oldest);
  }
}

Status StepGraphs::Record(int run, const kernels::StepArguments& arguments, Shape* shape) {
  MakeRoom();
  const uint64_t free_before_bytes = stage_.device.memory().free_bytes;
  const Status begun = recorder_.Begin(arguments, shape->n_positions);
  if (!begun.ok()) return Refuse(begun, shape);
  stage_.executor.set_recording(true);
  const Status kept = RunPrograms(run);
  stage_.executor.set_recording(false);
  const auto recording = recorder_.End(LaunchesLeft());
  TC_RETURN_IF_ERROR(kept);
  if (!recording.ok()) return Refuse(recording.status(), shape);
  Measure(*recording, free_before_bytes);
  shape->recording = *recording;
  shape->bytes = static_cast<uint64_t>(recording->n_launches) * launch_bytes_;
  taken_bytes_ += shape->bytes;
  most_launches_ = std::max(most_launches_, recording->n_launches);
  return OkStatus();
}

// Steps of this shape are as ever, for a while.
Status StepGraphs::Refuse(const Status& why, Shape* shape) {
  const std::string text = Str("a step is not replayed: ", why.message(), Kv("rows", shape->n_rows),
                               Kv("positions", shape->n_positions));
  std::exchange(has_refused_, true) ? LogDebug("worker", text) : LogInfo("worker", text);
  shape->n_seen = -kStaleSteps;
  return OkStatus();
}

Status StepGraphs::RunPrograms(int run) {
  Executor& executor = stage_.executor;
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

// The first that takes some tells what a launch takes; other programs on the card may be behind
// it, which makes graphs fewer, never more.
void StepGraphs::Measure(const kernels::Recording& recording, uint64_t free_before_bytes) {
  if (is_measured_) return;
  const uint64_t free_bytes = stage_.device.memory().free_bytes;
  const uint64_t taken = free_before_bytes - std::min(free_before_bytes, free_bytes);
  if (taken == 0 || recording.n_launches == 0) return;
  is_measured_ = true;
  const auto n_launches = static_cast<uint64_t>(recording.n_launches);
  launch_bytes_ = std::max(kLeastLaunchBytes, DivCeil(taken, n_launches));
  const std::string text = Str("steps are replayed on ", stage_.device.name(), ": ", n_launches,
                               " launches take ", FormatBytes(taken), " of its memory, ",
                               FormatBytes(memory_bytes_), " are kept free for such graphs");
  taken > memory_bytes_ ? LogWarn("worker", text) : LogInfo("worker", text);
}

void StepGraphs::Drop(Shape* shape) {
  if (shape->recording.id == 0) return;
  recorder_.Drop(shape->recording.id);
  shape->recording = {};
  shape->n_seen = 0;
  taken_bytes_ -= std::min(taken_bytes_, std::exchange(shape->bytes, 0));
}

int StepGraphs::n_graphs() const {
  const auto has_graph = [](const Shape& shape) { return shape.recording.id != 0; };
  return static_cast<int>(std::ranges::count_if(shapes_, has_graph));
}

}  // namespace thermocline::worker
