#include "base/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "base/str.h"
#include "base/units.h"

namespace thermocline {
namespace {

constexpr uint64_t kHugePageBytes = 2 * kMiB;  // x86-64 and AArch64 with 4 KiB base pages
constexpr uint64_t kCacheLineBytes = 64;

}  // namespace

void internal::ReleaseMemory::operator()(std::byte* data) const {
  if (mapped) {
    munmap(data, n_bytes);
  } else {
    std::free(data);
  }
}

Result<Buffer> Buffer::Allocate(uint64_t n_bytes) {
  Buffer buffer;
  if (n_bytes == 0) return buffer;
  const bool mapped = n_bytes >= kHugePageBytes;
  void* data = nullptr;
  if (mapped) {
    data = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) data = nullptr;
    // Advice only: where the system has no huge pages the region still works.
    if (data != nullptr) (void)madvise(data, n_bytes, MADV_HUGEPAGE);
  } else {
    data = std::aligned_alloc(kCacheLineBytes, RoundUp(n_bytes, kCacheLineBytes));
    if (data != nullptr) std::memset(data, 0, n_bytes);
  }
  if (data == nullptr) {
    return ResourceExhausted(Str("no memory for a buffer:", Kv("bytes", n_bytes)));
  }
  buffer.data_ = std::unique_ptr<std::byte, internal::ReleaseMemory>(
      static_cast<std::byte*>(data), internal::ReleaseMemory{n_bytes, mapped});
  return buffer;
}

}  // namespace thermocline
