#include "worker/residency.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/str.h"
#include "base/units.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; the headers may be older than the kernel
#endif

namespace thermocline::worker {
namespace {

struct PageSpan {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  size_t size() const { return end - begin; }
  void* data() const { return reinterpret_cast<void*>(begin); }
};

uintptr_t PageBytes() { return static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)); }

PageSpan PagesTouching(std::span<const std::byte> bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t page = PageBytes();
  return {begin / page * page, RoundUp(begin + bytes.size(), page)};
}

// For kernels without MADV_POPULATE_READ: one read per page faults it in.
void TouchEachPage(std::span<const std::byte> bytes) {
  const uintptr_t page = PageBytes();
  for (size_t at = 0; at < bytes.size(); at += page) {
    (void)*static_cast<const volatile std::byte*>(bytes.data() + at);
  }
}

}  // namespace

Status MakeResident(std::span<const std::byte> bytes) {
  if (bytes.empty()) return OkStatus();
  const PageSpan pages = PagesTouching(bytes);
  if (madvise(pages.data(), pages.size(), MADV_POPULATE_READ) == 0) return OkStatus();
  if (errno == EINVAL || errno == ENOSYS) {
    TouchEachPage(bytes);
    return OkStatus();
  }
  return DataLoss(Str("cannot read the model file into memory: ", std::strerror(errno),
                      Kv("bytes", bytes.size())));
}

}  // namespace thermocline::worker
