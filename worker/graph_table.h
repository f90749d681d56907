// Graphs of work that a device does again and again in one shape, within the memory kept for them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/step_recorder.h"

namespace thermocline::worker {

// Of a device's memory on offer, kept free for graphs. A stage of 32 layers is some 600 launches,
// which take 40 MiB by what follows, and much less with drivers of 2024 and later.
uint64_t GraphBytes(uint64_t offered_bytes);
inline constexpr uint64_t kMaxGraphBytes = uint64_t{256} << 20;
// Of a launch in a graph, until graphs have shown what it is: what PyTorch's documentation of CUDA
// graphs says of older drivers. Assumed, not measured.
inline constexpr uint64_t kAssumedLaunchBytes = uint64_t{64} << 10;

// What must be the same for the launches of one batch to be those of another.
struct GraphShape {
  const std::byte* place = nullptr;  // of what the work begins with, in the device's memory
  int64_t n_rows = 0;                // at least 1
  int64_t n_positions = 0;           // that the longest sequence has, at most
  int n_best = 0;                    // logits to choose
  std::span<const uint8_t> modes;    // of layers
};

// A shape that has come kComings times has graphs made when it comes again: one for each piece of
// its work. Where the device refuses, or has no memory left for one, that work is launched as ever.
// Step thread only.
class GraphTable {
 public:
  // Of a device that can record, and that outlives it.
  GraphTable(kernels::Device& device, uint64_t memory_bytes);
  ~GraphTable();  // waits for the device
  GraphTable(const GraphTable&) = delete;
  GraphTable& operator=(const GraphTable&) = delete;

  // A shape that has come, until the next Come, or for as long as it is held.
  class Entry;
  // Null when there is no place for another shape.
  Entry* Come(const GraphShape& shape);
  // Whoever goes on with an entry after others have come holds it; null is nothing.
  static void Hold(Entry* entry);
  static void Release(Entry* entry);
  // Whether the entry has graphs, or may have some made.
  static bool IsReady(const Entry& entry);

  // True: what `launch` would put into the device's queue was put there as one. False: nothing was
  // done. `launch` is called to make the graph, while the device keeps what is launched; it asks
  // nothing else of the device, and its errors are returned.
  Result<bool> Replay(Entry* entry, size_t piece, const kernels::StepArguments& arguments,
                      const std::function<Status()>& launch);

  // Graphs that there are.
  int64_t n_graphs() const { return n_graphs_; }

  static constexpr int kComings = 3;
  // Shapes in mind: batches of 1 to 16 rows in two lengths of context, and as many heads.
  static constexpr size_t kShapes = 64;
  // A shape with graphs gives way to another when none of the last so many was its own: making one
  // takes as long as some steps.
  static constexpr int64_t kStaleComings = 256;

 private:
  Entry* Find(const GraphShape& shape);
  Entry* Oldest(bool has_graphs);
  // There is a graph afterwards, unless it was refused, which is no error and logged.
  Status Record(Entry* entry, const kernels::StepArguments& arguments,
                const std::function<Status()>& launch, kernels::Recording* recording);
  void Refuse(const Status& why, Entry* entry);
  int64_t LaunchesLeft() const;
  void MakeRoom();
  void Measure(int64_t n_launches, uint64_t free_before_bytes);
  void Drop(Entry* entry);

  kernels::Device& device_;
  kernels::StepRecorder& recorder_;
  const uint64_t memory_bytes_;
  std::vector<Entry> entries_;
  int64_t n_come_ = 0;
  int64_t n_graphs_ = 0;
  int64_t n_launches_ = 0;     // in all graphs
  int64_t most_launches_ = 0;  // of a graph so far
  // What launches in graphs take, and of how many that was measured, until it is known.
  uint64_t launch_bytes_ = kAssumedLaunchBytes;
  int64_t n_measured_ = 0;
  uint64_t measured_bytes_ = 0;
  bool has_refused_ = false;
};

class GraphTable::Entry {
 private:
  friend class GraphTable;
  bool Is(const GraphShape& other) const;
  bool has_graphs() const;

  GraphShape shape_;            // without modes; of no rows: none yet
  std::vector<uint8_t> modes_;  // of the shape
  int64_t n_seen_ = 0;          // up to one more than kComings; negative: so many more before a try
  int64_t last_come_ = 0;
  int n_holders_ = 0;
  std::vector<kernels::Recording> pieces_;
};

}  // namespace thermocline::worker
