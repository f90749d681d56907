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
  // Where the memory is not the system's: gives it back to `owner`.
  void (*release)(void* owner, std::byte* data, uint64_t n_bytes) = nullptr;
  void* owner = nullptr;
  void operator()(std::byte* data) const;
};
}  // namespace internal

// Owns one region of host memory, or of a device's, which made it. Host regions of 2 MiB and more
// are mapped and ask for transparent huge pages; smaller ones are 64-byte aligned heap blocks.
// Thread-compatible.
class Buffer {
 public:
  Buffer() = default;
  // kResourceExhausted when the system has no memory of that size.
  static Result<Buffer> Allocate(uint64_t n_bytes);
  // Takes memory that `release` gives back to its owner, which must outlive the buffer.
  using Release = void (*)(void* owner, std::byte* data, uint64_t n_bytes);
  static Buffer Adopt(std::byte* data, uint64_t n_bytes, Release release, void* owner);

  std::byte* data() const { return data_.get(); }
  uint64_t size() const { return empty() ? 0 : data_.get_deleter().n_bytes; }
  bool empty() const { return data_ == nullptr; }

 private:
  std::unique_ptr<std::byte, internal::ReleaseMemory> data_;
};

}  // namespace thermocline
