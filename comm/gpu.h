// A GPU as comm/ needs it: memory, copies, and the order of work. It is reached through the CUDA
// driver's library, which is loaded at run time: a build needs nothing of CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace thermocline::comm {

// Work of a GPU that is done in order: a stream of the CUDA driver, which is one of its runtime
// too. Null is the default stream.
using GpuStream = void*;

inline constexpr char kCudaLibrary[] = "libcuda.so.1";

// Owns a use of one GPU's primary context, which kernels of this process share. What it makes must
// not outlive it. Thread-safe.
class Gpu {
 public:
  // Gives back what it points to. For the unique_ptrs below.
  struct Release {
    const Gpu* gpu = nullptr;
    void (Gpu::*release)(void*) const = nullptr;
    void operator()(void* owned) const { (gpu->*release)(owned); }
  };
  using Memory = std::unique_ptr<void, Release>;
  using Stream = std::unique_ptr<void, Release>;
  using Event = std::unique_ptr<void, Release>;  // recorded by Record

  // kUnavailable: no driver, one that lacks a function or finds no GPU; kNotFound: fewer GPUs than
  // that. Takes as long as making a context, some 100 ms.
  static Result<std::unique_ptr<Gpu>> Open(int ordinal, const std::string& library = kCudaLibrary);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  int ordinal() const;
  // 32 hexadecimal digits: which card it is, whatever number and name it has in whose container.
  const std::string& uuid() const;
  // Where it sits, as the driver writes it: "0000:1b:00.0".
  const std::string& pci_bus_id() const;
  // Makes this GPU the one that the calling thread's CUDA and NCCL calls are for. All calls below
  // do so. kInternal when it is lost, here and below.
  Status Use() const;
  // kResourceExhausted when there is no memory; the same for memory of the host that the GPU
  // copies at full speed.
  Result<Memory> Allocate(uint64_t n_bytes) const;
  Result<Memory> AllocatePinned(uint64_t n_bytes) const;
  Result<Stream> MakeStream() const;
  Result<Event> MakeEvent() const;
  // From and to anywhere, in the order of `stream`.
  Status Copy(void* to, const void* from, uint64_t n_bytes, GpuStream stream) const;
  // `event` passes when the work that is on `stream` now has been done.
  Status Record(const Event& event, GpuStream stream) const;
  Result<bool> HasPassed(const Event& event) const;
  // Waits here; kDeadlineExceeded.
  Status Await(const Event& event, TimePoint deadline) const;
  // Later work on `stream` waits there.
  Status Await(const Event& event, GpuStream stream) const;

 private:
  struct Library;

  Gpu();
  Status Check(int code, const char* what) const;
  void Free(void* memory) const;
  void FreePinned(void* memory) const;
  void DestroyStream(void* stream) const;
  void DestroyEvent(void* event) const;

  std::unique_ptr<Library> library_;
};

}  // namespace thermocline::comm
