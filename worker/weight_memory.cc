#include "worker/weight_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/units.h"
#include "kernels/lanes.h"

namespace thermocline::worker {
namespace {

// Matrices share regions of this size, so that small ones lie on huge pages too. What is left of a
// region when the next matrix does not fit is never touched, and so never memory.
constexpr uint64_t kRegionBytes = 256 * kMiB;
constexpr uint64_t kAlignBytes = 64;  // a cache line
// In a device's own memory untouched memory is taken too: there what is small shares regions of
// this size, and the rest has one each. Devices give memory in pieces of 2 MiB, so that a large
// matrix wastes half of that on average: below 2 % where they have 64 MiB and more, while norms and
// biases of all layers fit few regions.
constexpr uint64_t kApartRegionBytes = 2 * kMiB;
constexpr uint64_t kAloneBytes = 1 * kMiB;
// What the widest loads of a device's kernels want of a matrix's begin.
constexpr uint64_t kApartAlignBytes = 256;

bool IsIn(const Buffer& region, const TensorView& matrix) {
  return region.data() <= matrix.data && matrix.data < region.data() + region.size();
}

}  // namespace

Result<std::byte*> WeightMemory::Allocate(uint64_t n_bytes, kernels::Device& device) {
  is_apart_ = !device.reads_host_memory();
  const uint64_t taken =
      RoundUp(n_bytes + kernels::kLanesSlackBytes, is_apart_ ? kApartAlignBytes : kAlignBytes);
  if (is_apart_ && taken >= kAloneBytes) {
    TC_ASSIGN_OR_RETURN(Buffer region, device.Allocate(taken));
    alone_.push_back(std::move(region));
    return alone_.back().data();
  }
  if (regions_.empty() || regions_.back().size() - used_bytes_ < taken) {
    const uint64_t least = is_apart_ ? kApartRegionBytes : kRegionBytes;
    TC_ASSIGN_OR_RETURN(Buffer region, device.Allocate(std::max(taken, least)));
    regions_.push_back(std::move(region));
    used_bytes_ = 0;
  }
  std::byte* const data = regions_.back().data() + used_bytes_;
  used_bytes_ += taken;
  return data;
}

bool WeightMemory::Holds(const TensorView& matrix) const {
  const auto is_in = [&](const Buffer& region) { return IsIn(region, matrix); };
  return std::any_of(regions_.begin(), regions_.end(), is_in) ||
         std::any_of(alone_.begin(), alone_.end(), is_in);
}

void WeightMemory::GiveBack(const TensorView& matrix) {
  const auto is_its = [&](const Buffer& region) { return IsIn(region, matrix); };
  if (std::erase_if(alone_, is_its) > 0) return;
  if (is_apart_) return;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(matrix.data);
  const uint64_t first = RoundUp(begin, page);
  const uint64_t end = (begin + matrix.bytes()) / page * page;
  if (first >= end) return;
  // Advice only: where it fails the region still works, and takes its memory to the end.
  (void)madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

void WeightMemory::KeepOnly(const std::vector<TensorView>& matrices) {
  const auto is_used = [&](const Buffer& region) {
    return std::any_of(matrices.begin(), matrices.end(),
                       [&](const TensorView& matrix) { return IsIn(region, matrix); });
  };
  std::erase_if(alone_, [&](const Buffer& region) { return !is_used(region); });
  if (regions_.empty()) return;
  Buffer last = std::move(regions_.back());
  regions_.pop_back();
  std::erase_if(regions_, [&](const Buffer& region) { return !is_used(region); });
  if (is_used(last)) {
    regions_.push_back(std::move(last));
  } else {
    used_bytes_ = regions_.empty() ? 0 : regions_.back().size();
  }
}

uint64_t WeightMemory::size_bytes() const {
  uint64_t n_bytes = 0;
  for (const Buffer& region : regions_) n_bytes += region.size();
  for (const Buffer& region : alone_) n_bytes += region.size();
  return n_bytes;
}

}  // namespace thermocline::worker
