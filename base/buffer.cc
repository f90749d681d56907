#include "base/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/str.h"
#include "base/units.h"

namespace thermocline {
namespace {

constexpr uint64_t kHugePageBytes = 2 * kMiB;  // x86-64 and AArch64 with 4 KiB base pages
constexpr uint64_t kCacheLineBytes = 64;
constexpr uint64_t kMaxBytes = uint64_t{1} << 62;  // rounding it up does not wrap

// Pages of zeros that begin where a huge page does, so that all but the last of them can be huge.
// The system aligns a mapping by itself only when its length is a whole number of huge pages. Null
// when there is no memory.
void* MapAligned(uint64_t n_bytes) {
  if (n_bytes > kMaxBytes) return nullptr;
  const uint64_t page_bytes = RoundUp(n_bytes, static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  const uint64_t mapped_bytes = page_bytes + kHugePageBytes;
  void* mapped =
      mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const uint64_t before = RoundUp(reinterpret_cast<uint64_t>(begin), kHugePageBytes) -
                          reinterpret_cast<uint64_t>(begin);
  if (before > 0) munmap(begin, before);
  const uint64_t after = mapped_bytes - before - page_bytes;
  if (after > 0) munmap(begin + before + page_bytes, after);
  // Advice only: where the system has no huge pages the region still works.
  (void)madvise(begin + before, page_bytes, MADV_HUGEPAGE);
  return begin + before;
}

}  // namespace

void internal::ReleaseMemory::operator()(std::byte* data) const {
  if (release != nullptr) {
    release(owner, data, n_bytes);
  } else if (mapped) {
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
    data = MapAligned(n_bytes);
  } else {
    data = std::aligned_alloc(kCacheLineBytes, RoundUp(n_bytes, kCacheLineBytes));
    if (data != nullptr) std::memset(data, 0, n_bytes);
  }
  if (data == nullptr) {
    return ResourceExhausted(Str("no memory for a buffer:", Kv("bytes", n_bytes)));
  }
  buffer.data_ = std::unique_ptr<std::byte, internal::ReleaseMemory>(
      static_cast<std::byte*>(data), internal::ReleaseMemory{n_bytes, mapped, nullptr, nullptr});
  return buffer;
}

Buffer Buffer::Adopt(std::byte* data, uint64_t n_bytes, Release release, void* owner) {
  Buffer buffer;
  buffer.data_ = std::unique_ptr<std::byte, internal::ReleaseMemory>(
      data, internal::ReleaseMemory{n_bytes, false, release, owner});
  return buffer;
}

}  // namespace thermocline
