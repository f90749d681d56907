// Memory that the matrices of a shard share: regions of huge pages, handed back to the system a
// matrix at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"

namespace thermocline::worker {

// Owns the regions. Thread-compatible.
class WeightMemory {
 public:
  // For a matrix of `n_bytes`, with what kernels may read beyond it. kResourceExhausted when there
  // is none.
  Result<std::byte*> Allocate(uint64_t n_bytes, kernels::Device& device);
  // Whether a matrix lies here, rather than in a mapped file.
  bool Holds(const TensorView& matrix) const;
  // Hands the pages of a matrix that lies here back to the system: its values are gone, and the
  // place is not used again.
  static void GiveBack(const TensorView& matrix);
  // Frees the regions where none of `matrices` lies.
  void KeepOnly(const std::vector<TensorView>& matrices);
  // Of address space; what was handed back is no memory.
  uint64_t size_bytes() const;

 private:
  std::vector<Buffer> regions_;  // matrices are taken from the last
  uint64_t used_bytes_ = 0;      // of the last
};

}  // namespace thermocline::worker
