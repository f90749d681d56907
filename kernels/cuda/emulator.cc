#include "kernels/cuda/emulator.h"

#include <array>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/fiber.h"

namespace thermocline::kernels::cuda::emulator {
namespace {

constexpr int kWarpLanes = 32;

enum class Waits : uint8_t { kNothing, kWarp, kBlock };

struct WarpState {
  std::array<std::array<uint64_t, kWarpLanes>, 2> slots = {};
  int parity = 0;
  int n_arrived = 0;
};

// The fibers of a block, made once per thread of the host. Thread-compatible.
class Block {
 public:
  // Runs `thread` for each of n_threads, a multiple of the warp.
  void Run(const std::function<void()>& thread, int n_threads, bool is_reversed) {
    CHECK(n_threads % kWarpLanes == 0);
    while (static_cast<int>(fibers_.size()) < n_threads) {
      fibers_.push_back(std::make_unique<Fiber>());
    }
    place.n_threads = n_threads;
    waits_.assign(static_cast<size_t>(n_threads), Waits::kNothing);
    warps_.assign(static_cast<size_t>(n_threads / kWarpLanes), WarpState());
    n_at_barrier_ = 0;
    for (int i = 0; i < n_threads; ++i) fiber(i).Start(&thread);
    while (RunReady(n_threads, is_reversed)) {
    }
    // Threads that wait for others which have returned: undefined on a GPU.
    for (int i = 0; i < n_threads; ++i) CHECK(!fiber(i).is_running());
  }

  void MeetBlock() {
    if (++n_at_barrier_ < place.n_threads) return Wait(Waits::kBlock);
    n_at_barrier_ = 0;
    waits_.assign(waits_.size(), Waits::kNothing);
  }

  const uint64_t* MeetWarp(uint64_t brought) {
    const int lane = place.thread % kWarpLanes, first = place.thread - lane;
    WarpState& warp = warps_[static_cast<size_t>(place.thread / kWarpLanes)];
    auto& slots = warp.slots[static_cast<size_t>(warp.parity)];
    slots[static_cast<size_t>(lane)] = brought;
    if (++warp.n_arrived < kWarpLanes) {
      Wait(Waits::kWarp);
    } else {
      warp.n_arrived = 0;
      warp.parity ^= 1;
      for (int i = first; i < first + kWarpLanes; ++i) waits(i) = Waits::kNothing;
    }
    return slots.data();
  }

  Place place;

 private:
  // Whether some thread could go on.
  bool RunReady(int n_threads, bool is_reversed) {
    bool has_run = false;
    for (int i = 0; i < n_threads; ++i) {
      const int thread = is_reversed ? n_threads - 1 - i : i;
      if (!fiber(thread).is_running() || waits(thread) != Waits::kNothing) continue;
      place.thread = thread;
      fiber(thread).Resume();
      has_run = true;
    }
    return has_run;
  }

  void Wait(Waits what) {
    const int thread = place.thread;
    waits(thread) = what;
    fiber(thread).Yield();
  }

  Fiber& fiber(int i) { return *fibers_[static_cast<size_t>(i)]; }
  Waits& waits(int i) { return waits_[static_cast<size_t>(i)]; }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Waits> waits_;
  std::vector<WarpState> warps_;
  int n_at_barrier_ = 0;
};

// A grid runs on the thread that asks for it.
thread_local Block block;

}  // namespace

const Place& Here() { return block.place; }
void MeetBlock() { block.MeetBlock(); }
const uint64_t* MeetWarp(uint64_t brought) { return block.MeetWarp(brought); }

void CheckAligned(const void* p, uintptr_t n_bytes) {
  CHECK(reinterpret_cast<uintptr_t>(p) % n_bytes == 0);
}

void RunGrid(const Shape& shape, const std::function<void()>& thread, bool is_reversed) {
  for (int d = 0; d < 3; ++d) block.place.n_blocks[d] = static_cast<int>(shape.n_blocks[d]);
  for (int z = 0; z < shape.n_blocks[2]; ++z) {
    for (int y = 0; y < shape.n_blocks[1]; ++y) {
      for (int x = 0; x < shape.n_blocks[0]; ++x) {
        block.place.block[0] = x, block.place.block[1] = y, block.place.block[2] = z;
        block.Run(thread, shape.n_threads, is_reversed);
      }
    }
  }
}

}  // namespace thermocline::kernels::cuda::emulator
