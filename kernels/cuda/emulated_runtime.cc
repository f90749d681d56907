// Device memory, the queue of work and events of the emulator.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "base/units.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/emulator.h"
#include "kernels/cuda/health.h"
#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/runtime.h"

namespace thermocline::kernels::cuda {
namespace {

// What cudaMalloc aligns to.
constexpr uint64_t kAlignBytes = 256;
// Addresses are not used twice, so that memory that was freed stays out of reach: the mapping is
// this many times larger than the memory.
constexpr uint64_t kAddressFactor = 64;
// New memory holds this, in every byte: NaN as a float, -1 as a count.
constexpr int kFill = 0xff;

// Memory that can be reached only between Open and Close. Each piece ends where a page ends that
// nobody can reach. Thread-compatible.
class GuardedMemory {
 public:
  GuardedMemory(std::byte* data, uint64_t address_bytes, uint64_t memory_bytes)
      : data_(data), address_bytes_(address_bytes), memory_bytes_(memory_bytes) {}
  ~GuardedMemory() { munmap(data_, address_bytes_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  std::byte* Allocate(uint64_t n_bytes) {
    if (n_bytes > free_bytes()) return nullptr;
    const uint64_t held_bytes = RoundUp(n_bytes, kAlignBytes);
    const uint64_t page_bytes = RoundUp(held_bytes, page_bytes_);
    if (used_addresses_ + page_bytes + page_bytes_ > address_bytes_) return nullptr;
    std::byte* const begin = data_ + used_addresses_;
    used_addresses_ += page_bytes + page_bytes_;
    used_bytes_ += held_bytes;
    std::byte* const piece = begin + page_bytes - held_bytes;
    pieces_[piece] = {begin, page_bytes, held_bytes};
    Protect(pieces_[piece], PROT_READ | PROT_WRITE);
    std::memset(begin, kFill, page_bytes);
    if (!is_open_) Protect(pieces_[piece], PROT_NONE);
    return piece;
  }
  void Free(std::byte* piece) {
    const auto found = pieces_.find(piece);
    CHECK(found != pieces_.end());
    (void)madvise(found->second.begin, found->second.page_bytes, MADV_DONTNEED);
    Protect(found->second, PROT_NONE);
    used_bytes_ -= found->second.held_bytes;
    pieces_.erase(found);
  }
  void Open() { SetOpen(true); }
  void Close() { SetOpen(false); }
  uint64_t free_bytes() const { return memory_bytes_ - used_bytes_; }
  uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  struct Piece {
    std::byte* begin;
    uint64_t page_bytes, held_bytes;
  };
  static void Protect(const Piece& piece, int protection) {
    CHECK(mprotect(piece.begin, piece.page_bytes, protection) == 0);
  }
  void SetOpen(bool is_open) {
    is_open_ = is_open;
    for (const auto& [data, piece] : pieces_) {
      Protect(piece, is_open ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
  }

  std::byte* const data_;
  const uint64_t address_bytes_, memory_bytes_;
  const uint64_t page_bytes_ = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t used_addresses_ = 0, used_bytes_ = 0;
  std::map<std::byte*, Piece> pieces_;
  bool is_open_ = false;
};

// Work waits in a queue until the host asks whether it is done, so that whoever reads a result too
// early, or changes what is still to be read, is found out. Thread-compatible.
class EmulatedRuntime final : public Runtime {
 public:
  EmulatedRuntime(std::byte* mapping, uint64_t address_bytes, const EmulatorOptions& options)
      : options_(options),
        memory_(mapping, address_bytes, options.memory_bytes),
        health_(options.patience) {
    health_.Note(options.error);
    facts_.name = "emulated";
    facts_.ordinal = options.ordinal;
    facts_.n_multiprocessors = options.n_multiprocessors;
    facts_.compute_capability = options.compute_capability;
    facts_.least_capability = options.least_capability;
    facts_.scratch_bytes = options.scratch_bytes;
  }

  const DeviceFacts& facts() const override { return facts_; }
  const KernelTable& kernels() const override { return emulated::Kernels(); }
  void* stream() override { return static_cast<Runtime*>(this); }

  std::byte* AllocateDevice(uint64_t n_bytes) override {
    CHECK(!is_recording_);
    if (!health_.error().ok()) return nullptr;  // nothing works any more
    return memory_.Allocate(n_bytes);
  }
  void FreeDevice(std::byte* data) override {
    CHECK(!is_recording_);
    if (health_.hangs()) return;
    RunAll();  // as cudaFree does
    memory_.Free(data);
  }
  std::byte* AllocatePinned(uint64_t n_bytes) override {
    return static_cast<std::byte*>(std::aligned_alloc(kAlignBytes, RoundUp(n_bytes, kAlignBytes)));
  }
  void FreePinned(std::byte* data) override {
    CHECK(!is_recording_);
    if (!health_.hangs()) RunAll();
    std::free(data);
  }
  void MemoryInfo(uint64_t* free_bytes, uint64_t* total_bytes) const override {
    *free_bytes = memory_.free_bytes();
    *total_bytes = memory_.memory_bytes();
  }

  void EnqueueCopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    CHECK(!is_recording_);
    if (options_.counts != nullptr) ++options_.counts->n_copies;
    Enqueue([=] { std::memcpy(device, host, n_bytes); });
  }
  void EnqueueCopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    CHECK(!is_recording_);
    if (options_.counts != nullptr) ++options_.counts->n_copies;
    Enqueue([=] { std::memcpy(host, device, n_bytes); });
  }
  void EnqueueCopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    CHECK(!is_recording_);
    if (options_.counts != nullptr) ++options_.counts->n_copies;
    Enqueue([=] { std::memcpy(to, from, n_bytes); });
  }
  void EnqueueZero(std::byte* device, uint64_t n_bytes) override {
    CHECK(!is_recording_);
    Enqueue([=] { std::memset(device, 0, n_bytes); });
  }
  void EnqueueGrid(const emulator::Shape& shape, std::function<void()> thread) {
    auto grid = [this, shape, thread = std::move(thread)] {
      emulator::RunGrid(shape, thread, options_.is_reversed);
    };
    if (is_recording_) return launches_.push_back(std::move(grid));
    if (options_.counts != nullptr) ++options_.counts->n_launches;
    Enqueue(std::move(grid));
  }

  Status BeginRecording() override {
    CHECK(!is_recording_);
    if (!options_.records) return Unavailable("this emulated device does not record");
    is_recording_ = true;
    return OkStatus();
  }
  Result<Recorded> EndRecording(int64_t max_launches) override {
    CHECK(is_recording_);
    is_recording_ = false;
    Kept kept{.launches = std::exchange(launches_, {})};
    const auto n_launches = static_cast<int64_t>(kept.launches.size());
    kept.memory = n_launches > max_launches
                      ? nullptr
                      : memory_.Allocate(kept.launches.size() * options_.recorded_launch_bytes);
    if (kept.memory == nullptr) {
      return ResourceExhausted(Str("no room for so many launches:", Kv("launches", n_launches)));
    }
    recordings_[++last_recording_] = std::move(kept);
    return Recorded{last_recording_, n_launches};
  }
  void EnqueueReplay(uint32_t number) override {
    CHECK(!is_recording_);
    if (options_.counts != nullptr) ++options_.counts->n_replays;
    for (const auto& launch : recordings_.at(number).launches) Enqueue(launch);
  }
  // Without running what is under way, of which none may be its own.
  void DropRecording(uint32_t number) override {
    const auto found = recordings_.find(number);
    if (found == recordings_.end()) return;
    memory_.Free(found->second.memory);
    recordings_.erase(found);
  }

  void RecordEvent(int slot) override {
    CHECK(!is_recording_);
    if (health_.hangs()) return;
    events_[static_cast<size_t>(slot)] = n_enqueued_;
  }
  bool IsEventDone(int slot) override {
    CHECK(!is_recording_);
    if (n_done_ >= events_[static_cast<size_t>(slot)]) return true;
    RunOne();  // some of it was done meanwhile
    return n_done_ >= events_[static_cast<size_t>(slot)];
  }
  Status WaitForEvent(int slot) override {
    CHECK(!is_recording_);
    health_.Await([&] {
      const uint64_t wanted = events_[static_cast<size_t>(slot)];
      while (n_done_ < wanted && !is_stuck_) RunOne();
      return n_done_ >= wanted;
    });
    return Error();
  }
  Status Error() override { return health_.error(); }
  void PushRange(const char*) override { ++n_ranges_; }
  void PopRange() override { CHECK(--n_ranges_ >= 0); }

 private:
  // What was recorded, with memory that nobody reads, as a GPU takes some.
  struct Kept {
    std::vector<std::function<void()>> launches;
    std::byte* memory = nullptr;
  };

  void Enqueue(std::function<void()> work) {
    if (health_.hangs()) return;
    queue_.push_back(std::move(work));
    ++n_enqueued_;
  }
  // What follows an error is over without being done; what follows work that hangs never is.
  void RunOne() {
    const Fate fate = options_.fate ? options_.fate(n_done_) : Fate::kIsDone;
    if (fate == Fate::kFails) health_.Note(Unavailable("the work failed: an emulated error"));
    is_stuck_ = is_stuck_ || (fate == Fate::kHangs && health_.error().ok());
    if (is_stuck_) return;
    if (health_.error().ok()) {
      memory_.Open();
      queue_.front()();
      memory_.Close();
    }
    queue_.pop_front();
    ++n_done_;
  }
  void RunAll() {
    while (!queue_.empty()) {
      RunOne();
      CHECK(!is_stuck_);  // a real one would wait here for ever
    }
  }

  const EmulatorOptions options_;
  GuardedMemory memory_;
  DeviceFacts facts_;
  Health health_;
  bool is_stuck_ = false;  // the first piece in the queue hangs
  std::deque<std::function<void()>> queue_;
  uint64_t n_enqueued_ = 0, n_done_ = 0;
  std::array<uint64_t, kEvents> events_ = {};
  int n_ranges_ = 0;
  bool is_recording_ = false;
  std::vector<std::function<void()>> launches_;  // of the recording
  std::map<uint32_t, Kept> recordings_;          // by number
  uint32_t last_recording_ = 0;
};

}  // namespace

void emulator::Enqueue(void* stream, const Shape& shape, std::function<void()> thread) {
  static_cast<EmulatedRuntime*>(static_cast<Runtime*>(stream))
      ->EnqueueGrid(shape, std::move(thread));
}

Result<std::unique_ptr<Runtime>> MakeEmulatedRuntime(const EmulatorOptions& options) {
  const uint64_t address_bytes = options.memory_bytes * kAddressFactor;
  void* mapping =
      mmap(nullptr, address_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return ResourceExhausted(
        Str("no address space for an emulated device:", Kv("bytes", address_bytes)));
  }
  return std::unique_ptr<Runtime>(
      std::make_unique<EmulatedRuntime>(static_cast<std::byte*>(mapping), address_bytes, options));
}

Result<std::unique_ptr<Device>> MakeEmulatedDevice(const EmulatorOptions& options) {
  TC_ASSIGN_OR_RETURN(std::unique_ptr<Runtime> runtime, MakeEmulatedRuntime(options));
  return MakeDevice(std::move(runtime));
}

}  // namespace thermocline::kernels::cuda
