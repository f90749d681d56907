// Runs the grids of kernels on the host, to test them where there is no GPU.
//
// A grid's blocks run one after the other. Every thread of a block is a fiber with a stack of its
// own; it runs until it meets the others of its warp or block, so a kernel that forgets to meet
// them reads what is not there yet, in one of the two orders in which the fibers are tried. Work is
// queued and runs when the host asks whether it is done. Device memory is one mapping that the host
// may not touch but in copies: whoever does gets a segmentation fault.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/cuda/patience.h"
#include "kernels/cuda/scratch.h"
#include "kernels/device.h"

namespace thermocline::kernels::cuda {

enum class Fate : uint8_t { kIsDone, kFails, kHangs };

// What the host has put into the queue of an emulated device.
struct EmulatorCounts {
  int64_t n_launches = 0;  // of kernels, but for those of replays
  int64_t n_replays = 0;
  int64_t n_copies = 0;
};

struct EmulatorOptions {
  int ordinal = 0;
  uint64_t memory_bytes = uint64_t{256} << 20;  // address space; touched pages only take memory
  bool is_reversed = false;                     // the order in which threads of a block are tried
  int n_multiprocessors = 4;
  uint64_t scratch_bytes = kMinScratchBytes;  // less than a GPU has: ops work in blocks sooner
  bool records = true;                        // else it refuses to
  uint64_t recorded_launch_bytes = 512;       // of the memory, for each launch that is kept
  int compute_capability = 90;
  int least_capability = 70;
  // What becomes of piece n of the work, a copy or a launch, from 0; null: all is done. One that
  // fails ends all later ones, too; one that hangs never ends.
  std::function<Fate(uint64_t n)> fate;
  Status error;                         // what is wrong with it before all work; OK: nothing
  Duration patience = kDevicePatience;  // with work that hangs; other work is waited for
  EmulatorCounts* counts = nullptr;     // outlives the device; null: nobody counts
};

class Runtime;

// The CUDA backend on the emulator, and what lies below it. For tests. kResourceExhausted when
// there is no address space.
Result<std::unique_ptr<Device>> MakeEmulatedDevice(const EmulatorOptions& options);
Result<std::unique_ptr<Runtime>> MakeEmulatedRuntime(const EmulatorOptions& options);

namespace emulator {

// The running thread's place in its grid.
struct Place {
  int thread = 0;
  int n_threads = 0;
  int block[3] = {};
  int n_blocks[3] = {};
};
struct Shape {
  int64_t n_blocks[3];
  int n_threads;
};

// For kernels (kernels/cuda/simt.cuh), while a grid runs on this thread of the host.
const Place& Here();
// Waits for every thread of the block; CHECKs that none has returned.
void MeetBlock();
// Waits for every lane of the warp and returns what each brought, until the meeting after next.
const uint64_t* MeetWarp(uint64_t brought);
void CheckAligned(const void* p, uintptr_t n_bytes);

// Runs a grid to its end on this thread of the host.
void RunGrid(const Shape& shape, const std::function<void()>& thread, bool is_reversed);
// Queues a grid on the stream of an emulated runtime.
void Enqueue(void* stream, const Shape& shape, std::function<void()> thread);

}  // namespace emulator
}  // namespace thermocline::kernels::cuda
