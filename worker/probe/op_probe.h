// How fast a device's own ops work through weights, by type: what a cost model needs to know beyond
// the bandwidth of the memory, since unpacking and multiplying hide behind reading only in part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/dtype.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "placement/profile.h"

namespace thermocline::worker {

// Columns of the weights: every type's blocks divide them. Longer rows are gathered faster.
inline constexpr int64_t kProbeCols = 2048;

// Measures ops on memory that it borrows. Each measurement takes its slot of time, whatever the
// speed, and one call of the op at least, so that workers which start together measure the same
// things at the same time, as they will share the memory later. Thread-compatible, as the device
// is.
class OpProbe {
 public:
  // `region` lies in the device's memory, is filled with kProbeByte and has at least kMinBytes;
  // both outlive the probe.
  OpProbe(kernels::Device& device, std::span<std::byte> region);
  static constexpr uint64_t kMinBytes = 2 << 20;

  // Bytes per second of weights that come from memory, as `rate` says; its figure is not read.
  double BytesPerS(const placement::WeightRate& rate, Duration slot);
  // FLOPs per second of products with weights that lie in a cache.
  double FlopsPerS(DType dtype, int n_tokens, Duration slot);
  // Seconds of an op that is just large enough to be handed to another thread.
  double TinyOpSeconds(Duration slot);

 private:
  // Matrices of one type side by side in the region, and of each some lists of rows that have no
  // row in common: enough work for several calls, none of which meets what another has fetched, or
  // the address translations that another has left.
  struct Case {
    std::vector<TensorView> matrices;
    std::vector<std::vector<int32_t>> lists;  // empty: all rows
    int64_t n_tokens = 1;
    size_t n_calls() const { return matrices.size() * std::max<size_t>(1, lists.size()); }
  };
  // As many matrices as fit, n_matrices at most.
  Case CaseOf(const placement::WeightRate& rate, uint64_t matrix_bytes, size_t n_matrices);
  uint64_t MatrixBytes(const placement::WeightRate& rate, Duration slot);
  // Returns the bytes it read.
  uint64_t Run(placement::WeightUse use, Case& test, size_t call);
  TensorView Weights(DType dtype, uint64_t begin_bytes, uint64_t n_bytes) const;
  void MatMul(const TensorView& w, int64_t n_tokens);

  kernels::Device& device_;
  const std::span<std::byte> region_;
  SteadyClock clock_;
  std::vector<float> x_, y_;
  std::vector<float> activations_;  // of the rows, by token; 0 where it does not need the row
  std::vector<uint16_t> tiny_w_;
  std::vector<float> tiny_x_, tiny_y_;
};

}  // namespace thermocline::worker
