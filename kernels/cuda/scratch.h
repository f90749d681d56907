// The device's memory for what lives within one op.
#pragma once

#include <cstdint>

#include "base/str.h"
#include "kernels/cuda/work_queue.h"

namespace thermocline::kernels::cuda {

// One region, used by one op after the other; it grows, which waits for the device, and never
// shrinks. Owned by the ops. Thread-compatible.
class Scratch {
 public:
  explicit Scratch(WorkQueue& queue) : queue_(queue) {}
  ~Scratch() { Free(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Null when there is no memory: the queue has failed then.
  std::byte* Reserve(uint64_t n_bytes) {
    if (n_bytes <= n_bytes_) return data_;
    Free();
    data_ = queue_.runtime().AllocateDevice(n_bytes);
    if (data_ == nullptr) {
      queue_.Fail(ResourceExhausted(
          Str("no memory for intermediate results:", Kv("device", queue_.runtime().facts().name),
              Kv("bytes", n_bytes))));
      return nullptr;
    }
    n_bytes_ = n_bytes;
    return data_;
  }

 private:
  // The runtime waits for the work that uses it.
  void Free() {
    if (data_ != nullptr) queue_.runtime().FreeDevice(data_);
    data_ = nullptr;
    n_bytes_ = 0;
  }

  WorkQueue& queue_;
  std::byte* data_ = nullptr;
  uint64_t n_bytes_ = 0;
};

}  // namespace thermocline::kernels::cuda
