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

bool IsIn(const Buffer& region, const TensorView& matrix) {
  return region.data() <= matrix.data && matrix.data < region.data() + region.size();
}

}  // namespace

uint64_t WeightMemory::TakenBytes(uint64_t n_bytes) {
  return ApartMemory::TakenBytes(n_bytes + kernels::kLanesSlackBytes);
}

Status WeightMemory::Reserve(uint64_t n_bytes, kernels::Device& device) {
  return device.reads_host_memory() ? OkStatus() : apart_.Reserve(n_bytes, device);
}

Result<std::byte*> WeightMemory::Allocate(uint64_t n_bytes, kernels::Device& device) {
  const uint64_t wanted = n_bytes + kernels::kLanesSlackBytes;
  if (!device.reads_host_memory()) return apart_.Take(wanted, device);
  const uint64_t taken = RoundUp(wanted, kAlignBytes);
  if (regions_.empty() || regions_.back().size() - used_bytes_ < taken) {
    TC_ASSIGN_OR_RETURN(Buffer region, device.Allocate(std::max(taken, kRegionBytes)));
    regions_.push_back(std::move(region));
    used_bytes_ = 0;
  }
  std::byte* const data = regions_.back().data() + used_bytes_;
  used_bytes_ += taken;
  return data;
}

bool WeightMemory::Holds(const TensorView& matrix) const {
  return apart_.Holds(matrix.data) ||
         std::any_of(regions_.begin(), regions_.end(),
                     [&](const Buffer& region) { return IsIn(region, matrix); });
}

void WeightMemory::GiveBack(const TensorView& matrix) {
  if (apart_.Holds(matrix.data)) return apart_.Free(matrix.data);
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
  std::vector<std::byte*> kept;
  for (const TensorView& matrix : matrices) kept.push_back(matrix.data);
  apart_.KeepOnly(kept);
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
  uint64_t n_bytes = apart_.size_bytes();
  for (const Buffer& region : regions_) n_bytes += region.size();
  return n_bytes;
}

}  // namespace thermocline::worker
