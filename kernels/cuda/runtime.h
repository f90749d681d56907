// The few calls that the CUDA backend makes of the machine below it: memory, one stream of work,
// events. The CUDA runtime is one implementation, the emulator of kernels/cuda/emulator.h another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/cuda/scratch.h"

namespace thermocline::kernels::cuda {

struct KernelTable;

// What launches and scratch are sized by, and how the device is named.
struct DeviceFacts {
  std::string name;  // "NVIDIA H200"
  int ordinal = 0;
  int n_multiprocessors = 1;
  int compute_capability = 0;  // 90 for 9.0
  int least_capability = 0;    // that the program has kernels for
  uint64_t scratch_bytes = kScratchBytes;
};

// Owned by the device that works through it. Thread-compatible; memory may be freed by any thread
// while no other calls. What is enqueued runs in the order of the calls. Its first error stays and
// is returned by every later Wait.
class Runtime {
 public:
  // Slots of events; RecordEvent may use one again once a later call needs it.
  static constexpr int kEvents = 64;

  virtual ~Runtime() = default;
  virtual const DeviceFacts& facts() const = 0;
  // The kernels, compiled for this device.
  virtual const KernelTable& kernels() const = 0;
  // What the kernels launch on.
  virtual void* stream() = 0;

  // Null when there is no memory; at least 256-byte aligned.
  virtual std::byte* AllocateDevice(uint64_t n_bytes) = 0;
  virtual void FreeDevice(std::byte* data) = 0;
  virtual std::byte* AllocatePinned(uint64_t n_bytes) = 0;
  virtual void FreePinned(std::byte* data) = 0;
  virtual void MemoryInfo(uint64_t* free_bytes, uint64_t* total_bytes) const = 0;

  virtual void EnqueueCopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) = 0;
  virtual void EnqueueCopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) = 0;
  virtual void EnqueueCopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) = 0;
  virtual void EnqueueZero(std::byte* device, uint64_t n_bytes) = 0;
  // Event `slot` of kEvents: behind everything enqueued so far.
  virtual void RecordEvent(int slot) = 0;
  virtual bool IsEventDone(int slot) = 0;
  // kUnavailable after kDevicePatience without an answer, and from then on at once.
  virtual Status WaitForEvent(int slot) = 0;
  // The first error so far, of launches and of what ran.
  virtual Status Error() = 0;

  // A number of launches that are kept, and how many they are.
  struct Recorded {
    uint32_t number = 0;
    int64_t n_launches = 0;
  };
  // Kernels launched from now on are kept instead of run, until EndRecording. Nothing else is
  // called meanwhile but ranges. These errors are the caller's, not the device's: kUnavailable with
  // what the device says, kResourceExhausted for more than max_launches or without memory; nothing
  // is kept then.
  virtual Status BeginRecording() = 0;
  virtual Result<Recorded> EndRecording(int64_t max_launches) = 0;
  virtual void EnqueueReplay(uint32_t number) = 0;
  // None of its replays is under way.
  virtual void DropRecording(uint32_t number) = 0;

  // The range of the host's calls until Pop, by name, for profilers.
  virtual void PushRange(const char* name) = 0;
  virtual void PopRange() = 0;
};

}  // namespace thermocline::kernels::cuda
