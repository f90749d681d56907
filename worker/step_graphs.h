// Steps of a stage that come again and again in one shape, replayed by the device as one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "worker/executor.h"
#include "worker/firing_counter.h"
#include "worker/kv_cache.h"
#include "worker/layer_stack.h"
#include "worker/program.h"

namespace thermocline::worker {

// Of a device's memory on offer, kept free for graphs. A stage of 32 layers is some 600 launches,
// which take 40 MiB by what follows, and much less with drivers of 2024 and later.
uint64_t GraphBytes(uint64_t offered_bytes);
inline constexpr uint64_t kMaxGraphBytes = uint64_t{256} << 20;
// Of a launch in a graph, until the first graph has shown what it is: what PyTorch's documentation
// of CUDA graphs says of older drivers. Assumed, not measured.
inline constexpr uint64_t kAssumedLaunchBytes = uint64_t{64} << 10;

// What is recorded and what runs it; all of it outlives the graphs and stays where it is.
struct RecordedStage {
  kernels::Device& device;  // that can record
  Executor& executor;       // of one run at a time, which waits for nobody
  LayerStack& layers;
  KvCache& kv;
  const Program* embed = nullptr;  // null: another stage embeds
};

// A shape is the number of rows, how long the sequences may be, and the modes of the layers. One
// that has come kComings times is recorded when it comes again. Where the device refuses, or has no
// memory left for it, steps are as ever. Step thread only.
class StepGraphs {
 public:
  // At most `memory_bytes` of the device's memory are taken.
  StepGraphs(const RecordedStage& stage, uint64_t memory_bytes);
  ~StepGraphs();  // waits for the device
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // Outlives them.
  void set_firing(FiringCounter* firing) { firing_ = firing; }

  // For a run whose input is there, whose modes are chosen and which is at no program yet: true
  // when what its layers give was put into the device's queue; false when nothing was done, and its
  // programs are to be run. Errors as Executor::Advance.
  Result<bool> Replay(int run);

  int64_t n_replays() const { return n_replays_; }
  // Recordings that there are.
  int n_graphs() const;

  static constexpr int kComings = 3;
  // A step that counts which neurons fire is as ever; of those that could one in so many is.
  static constexpr int kStepsPerLook = 8;
  // Shapes in mind. Batches of 1 to 16 rows in two lengths of context are 32.
  static constexpr size_t kShapes = 48;
  // A graph gives way to another when no step of the last so many was its own: making one takes as
  // long as some steps.
  static constexpr int64_t kStaleSteps = 256;

 private:
  struct Shape {
    int64_t n_rows = 0;       // 0: of no step yet
    int64_t n_positions = 0;  // that its longest sequence has, at most
    std::vector<uint8_t> modes;
    int64_t n_seen = 0;  // comings without a graph; negative: so many more before another try
    int64_t last_step = 0;
    kernels::Recording recording;
    uint64_t bytes = 0;  // that it takes
  };

  bool IsLook(int run);
  void PassLooks(int run);
  Shape* Find(int run, const kernels::StepArguments& arguments);
  Shape* Oldest(bool has_graph);
  // The shape has a graph afterwards, unless it was refused, which is no error and logged.
  Status Record(int run, const kernels::StepArguments& arguments, Shape* shape);
  Status Refuse(const Status& why, Shape* shape);
  Status RunPrograms(int run);
  int64_t LaunchesLeft() const;
  void MakeRoom();
  void Measure(const kernels::Recording& recording, uint64_t free_before_bytes);
  void Drop(Shape* shape);

  const RecordedStage stage_;
  kernels::StepRecorder& recorder_;
  const uint64_t memory_bytes_;
  FiringCounter* firing_ = nullptr;
  std::array<Shape, kShapes> shapes_;
  int64_t n_steps_ = 0;
  int64_t last_look_ = 0;
  int64_t n_replays_ = 0;
  uint64_t taken_bytes_ = 0;
  uint64_t launch_bytes_ = kAssumedLaunchBytes;
  bool is_measured_ = false;
  bool has_refused_ = false;
  int64_t most_launches_ = 0;  // of a graph so far
};

// How long sequences of a bucket are at most, of which one has n_positions: 512, 2048, 8192, ...
int64_t ContextBucket(int64_t n_positions);

}  // namespace thermocline::worker
