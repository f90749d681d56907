// Pieces of a device's own memory, where all that is asked for is taken, touched or not: given back
// pieces are used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Owns the regions that the pieces are of. Thread-compatible.
class ApartMemory {
 public:
  // Sees to it that pieces of n_bytes together find room, so that regions have no remainders.
  // kResourceExhausted when the device has not so much.
  Status Reserve(uint64_t n_bytes, kernels::Device& device);
  // The first hole that is large enough, else a region of that size; as Reserve.
  Result<std::byte*> Take(uint64_t n_bytes, kernels::Device& device);
  // Of a piece that Take gave. A region without pieces goes back to the device.
  void Free(const std::byte* data);
  bool Holds(const std::byte* data) const;
  // Frees all pieces but those that begin at one of `kept`.
  void KeepOnly(const std::vector<std::byte*>& kept);
  // Of the device's memory.
  uint64_t size_bytes() const;

  // What a piece takes.
  static uint64_t TakenBytes(uint64_t n_bytes);

 private:
  struct Region {
    Buffer memory;
    std::map<uint64_t, uint64_t> pieces;  // offset -> size
    bool Holds(const std::byte* data) const {
      return memory.data() <= data && data < memory.data() + memory.size();
    }
    // Where there is room; its size when there is none.
    uint64_t FindRoom(uint64_t n_bytes) const;
  };
  std::vector<Region> regions_;
};

}  // namespace thermocline::worker
