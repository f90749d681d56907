#include "worker/device_memory.h"

#include <algorithm>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Without a budget: of what is free, the rest is for what is lost between pieces of memory.
constexpr uint64_t kFreePercent = 95;
// Weights, keys and values, scratch of layers and of the head, its best logits, lists that are
// replayed, and the buffer of a probe.
constexpr uint64_t kPieces = 7;

// What a piece takes at most beyond itself: the one byte of it that is in a block of its own.
uint64_t LostPerPiece(kernels::Device& device) {
  constexpr uint64_t kPieceBytes = (uint64_t{16} << 20) + 1;
  const uint64_t free_before = device.memory().free_bytes;
  const auto piece = device.Allocate(kPieceBytes);
  const uint64_t free_after = device.memory().free_bytes;
  if (!piece.ok() || free_before - std::min(free_before, free_after) < kPieceBytes) return 0;
  return free_before - free_after - kPieceBytes;
}

}  // namespace

Result<uint64_t> MemoryToOffer(kernels::Device& device, const DeviceBudget& budget) {
  const kernels::DeviceMemory memory = device.memory();
  const uint64_t taken = memory.total_bytes - memory.free_bytes;
  const uint64_t lost = budget.bytes != 0 ? kPieces * LostPerPiece(device) : 0;
  const uint64_t needed = taken + lost + budget.nccl_bytes;
  const uint64_t most = budget.bytes != 0 ? std::min(budget.bytes, memory.total_bytes)
                                          : taken + memory.free_bytes / 100 * kFreePercent;
  if (most > needed) return most - needed;
  return ResourceExhausted(Str(
      budget.bytes != 0 ? "--gpu-memory leaves nothing on " : "no memory is left on ",
      device.name(), ":", budget.bytes != 0 ? Kv("budget", FormatBytes(budget.bytes)) : "",
      Kv("needs_more_than", FormatBytes(needed)), Kv("taken", FormatBytes(taken)),
      Kv("for_nccl", FormatBytes(budget.nccl_bytes)), Kv("total", FormatBytes(memory.total_bytes)),
      budget.nccl_bytes > 0 ? "; --nccl off does without the part for NCCL" : ""));
}

std::string HoldingsText(const kernels::Device& device, const DeviceHoldings& holdings) {
  const kernels::DeviceMemory memory = device.memory();
  const bool has_budget = holdings.budget_bytes != 0;
  const uint64_t most =
      has_budget ? std::min(holdings.budget_bytes, memory.total_bytes) : memory.total_bytes;
  return Str(
      device.name(), " holds ", FormatBytes(memory.total_bytes - memory.free_bytes), " of ",
      has_budget ? "the " : "its ", FormatBytes(most), has_budget ? " that it may use, " : ", ",
      FormatBytes(holdings.graph_bytes), " are kept free for graphs",
      holdings.nccl_bytes > 0 ? Str(", ", FormatBytes(holdings.nccl_bytes), " for NCCL") : "");
}

}  // namespace thermocline::worker
