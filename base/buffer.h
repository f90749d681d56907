// Owned memory: aligned, move-only, zeroed by the system.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"

namespace thermocline {

namespace internal {
struct ReleaseMemory {
  uint64_t n_bytes = 0;
  bool mapped = false;
  void operator()(std::byte* data) const;
};
}  // namespace internal

// Owns one region of host memory. Regions of 2 MiB and more are mapped and ask for transparent huge
// pages; smaller ones are 64-byte aligned heap blocks. Thread-compatible.
class Buffer {
 public:
  Buffer() = default;
  // kResourceExhausted when the system has no memory of that size.
  static Result<Buffer> Allocate(uint64_t n_bytes);

  std::byte* data() const { return data_.get(); }
  uint64_t size() const { return empty() ? 0 : data_.get_deleter().n_bytes; }
  bool empty() const { return data_ == nullptr; }

 private:
  std::unique_ptr<std::byte, internal::ReleaseMemory> data_;
};

}  // namespace thermocline
