// Keeps the ops of a step, so that a device runs them again as one, with other arguments.
#pragma once

#include <cstdint>
#include <span>

#include "base/status.h"
#include "kernels/operands.h"

namespace thermocline::kernels {

// What differs from one replay to the next, in host memory, for a step in which each row is a
// sequence of its own. Ops that are recorded get ids from these very spans, not from equal ones.
struct StepArguments {
  std::span<const int32_t> tokens;          // one per row
  std::span<const int32_t> position_ids;    // the same, or none: of a table of learned positions
  std::span<const int64_t> positions;       // one per row
  std::span<const SequenceRows> sequences;  // one per row
};

struct Recording {
  uint32_t id = 0;         // 0: none
  int64_t n_launches = 0;  // of kernels; the memory it takes grows with them
};

// Of a device that can, and owned by it. Thread-compatible, as the device is.
//
// A recording is good for arguments of as many rows, of whose sequences none is longer than it was
// made for; while the tensors, pages and lists that its ops were given are where they were; and
// until Device::Prepare takes other bounds, or Drop.
class StepRecorder {
 public:
  // Arguments have room for so many. A step of more keeps a device busy for longer than the host
  // needs to launch it.
  static constexpr int64_t kMaxRows = 64;

  virtual ~StepRecorder() = default;
  // Ops called from now on are kept and not run, until End; nothing else is asked of the device
  // meanwhile, and `arguments` stay as they are. Launches are for sequences of up to n_positions.
  // kInvalidArgument when the arguments find no room; kUnavailable when the device refuses.
  virtual Status Begin(const StepArguments& arguments, int64_t n_positions) = 0;
  // kResourceExhausted when there are more launches than max_launches, or no memory for them;
  // kInternal when an op took from the host what is not among the arguments; kUnavailable as the
  // device says. Then nothing is kept. In any case nothing has run.
  virtual Result<Recording> End(int64_t max_launches) = 0;
  // Enqueues the ops, with these arguments instead of those.
  virtual void Replay(uint32_t id, const StepArguments& arguments) = 0;
  // Gives its memory back; none of its replays is under way.
  virtual void Drop(uint32_t id) = 0;
};

}  // namespace thermocline::kernels
