// Memory that the matrices of a shard share, handed back a matrix at a time: on the host regions of
// huge pages, on a device with memory of its own no more of it than they take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "worker/apart_memory.h"

namespace thermocline::worker {

// Owns the regions. Thread-compatible.
class WeightMemory {
 public:
  // For a matrix of `n_bytes`, with what kernels may read beyond it. kResourceExhausted when there
  // is none.
  Result<std::byte*> Allocate(uint64_t n_bytes, kernels::Device& device);
  // What a device with memory of its own takes for such a matrix. Reserved in one piece beforehand,
  // matrices take no more than these together; elsewhere nothing is reserved.
  static uint64_t TakenBytes(uint64_t n_bytes);
  Status Reserve(uint64_t n_bytes, kernels::Device& device);
  // Whether a matrix lies here, rather than in a mapped file.
  bool Holds(const TensorView& matrix) const;
  // Hands the memory of a matrix that lies here back: its values are gone. On the host the system
  // gets its pages and the place is not used again; of a device's own memory it is used again.
  void GiveBack(const TensorView& matrix);
  // Frees the regions where none of `matrices` lies.
  void KeepOnly(const std::vector<TensorView>& matrices);
  // Of address space on the host, where what was handed back is no memory; of the device's memory.
  uint64_t size_bytes() const;

 private:
  std::vector<Buffer> regions_;  // matrices are taken from the last
  uint64_t used_bytes_ = 0;      // of the last
  ApartMemory apart_;            // on a device with memory of its own, instead
};

}  // namespace thermocline::worker
