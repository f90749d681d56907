#include "worker/apart_memory.h"

#include <algorithm>
#include <utility>

#include "base/units.h"

namespace thermocline::worker {
namespace {

// What the widest loads of a device's kernels want of a matrix's begin, and what CUDA gives.
constexpr uint64_t kAlignBytes = 256;

}  // namespace

uint64_t ApartMemory::TakenBytes(uint64_t n_bytes) { return RoundUp(n_bytes, kAlignBytes); }

Status ApartMemory::Reserve(uint64_t n_bytes, kernels::Device& device) {
  if (n_bytes == 0) return OkStatus();
  TC_ASSIGN_OR_RETURN(Buffer memory, device.Allocate(n_bytes));
  regions_.push_back({std::move(memory), {}});
  return OkStatus();
}

uint64_t ApartMemory::Region::FindRoom(uint64_t n_bytes) const {
  uint64_t begin = 0;
  for (const auto& [offset, size] : pieces) {
    if (offset - begin >= n_bytes) return begin;
    begin = offset + size;
  }
  return memory.size() - begin >= n_bytes ? begin : memory.size();
}

Result<std::byte*> ApartMemory::Take(uint64_t n_bytes, kernels::Device& device) {
  const uint64_t taken = TakenBytes(n_bytes);
  for (Region& region : regions_) {
    const uint64_t offset = region.FindRoom(taken);
    if (offset == region.memory.size()) continue;
    region.pieces[offset] = taken;
    return region.memory.data() + offset;
  }
  TC_RETURN_IF_ERROR(Reserve(taken, device));
  regions_.back().pieces[0] = taken;
  return regions_.back().memory.data();
}

void ApartMemory::Free(const std::byte* data) {
  const auto holds = [&](const Region& region) { return region.Holds(data); };
  const auto found = std::find_if(regions_.begin(), regions_.end(), holds);
  if (found == regions_.end()) return;
  found->pieces.erase(static_cast<uint64_t>(data - found->memory.data()));
  if (found->pieces.empty()) regions_.erase(found);
}

bool ApartMemory::Holds(const std::byte* data) const {
  return std::any_of(regions_.begin(), regions_.end(),
                     [&](const Region& region) { return region.Holds(data); });
}

void ApartMemory::KeepOnly(const std::vector<std::byte*>& kept) {
  for (Region& region : regions_) {
    std::erase_if(region.pieces, [&](const auto& piece) {
      return std::find(kept.begin(), kept.end(), region.memory.data() + piece.first) == kept.end();
    });
  }
  std::erase_if(regions_, [](const Region& region) { return region.pieces.empty(); });
}

uint64_t ApartMemory::size_bytes() const {
  uint64_t n_bytes = 0;
  for (const Region& region : regions_) n_bytes += region.memory.size();
  return n_bytes;
}

}  // namespace thermocline::worker
