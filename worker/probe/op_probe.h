// How fast a device's own ops work through weights, by type: what a cost model needs to know beyond
// the bandwidth of the memory, since unpacking and multiplying hide behind reading only in part.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/dtype.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "placement/profile.h"

namespace thermocline::worker {

// Columns of the weights: every type's blocks divide them. Longer rows are gathered faster.
inline constexpr int64_t kProbeCols = 2048;

// Values of an op in a device's memory, which only grows. Owned by a probe.
class ProbeValues {
 public:
  explicit ProbeValues(kernels::Device& device) : device_(device) {}
  // Room for n_bytes, whatever it holds. Errors as Device::Wait and Device::Allocate.
  Status Room(uint64_t n_bytes);
  // The same, with a copy of what `bytes` are.
  Status Set(std::span<const std::byte> bytes);
  std::byte* data() const { return memory_.data(); }

 private:
  kernels::Device& device_;
  Buffer memory_;
};

// Measures ops on memory that it borrows. Each measurement takes its slot of time, whatever the
// speed, and one call of the op at least, so that workers which start together measure the same
// things at the same time, as they will share the memory later. Errors are the device's, with its
// name: kUnavailable when it is lost, kResourceExhausted without memory for values beside the
// region. Thread-compatible, as the device is.
class OpProbe {
 public:
  // `region` lies in the device's memory, is filled with kProbeByte and has at least kMinBytes;
  // both outlive the probe.
  static Result<OpProbe> Create(kernels::Device& device, std::span<std::byte> region);
  static constexpr uint64_t kMinBytes = 2 << 20;
  // What it makes use of where the device has memory of its own, and the caches that this outlasts:
  // 50 MiB on the largest cards.
  static constexpr uint64_t kApartBytes = 512 << 20;

  // Bytes per second of weights that come from memory, as `rate` says; its figure is not read.
  Result<double> BytesPerS(const placement::WeightRate& rate, Duration slot);
  // FLOPs per second of products with weights that lie in a cache.
  Result<double> FlopsPerS(DType dtype, int n_tokens, Duration slot);
  // Seconds of an op that is just large enough to be handed to another thread.
  Result<double> TinyOpSeconds(Duration slot);

 private:
  OpProbe(kernels::Device& device, std::span<std::byte> region);
  // Matrices of one type side by side in the region, and of each some lists of rows that have no
  // row in common: enough work for several calls, none of which meets what another has fetched, or
  // the address translations that another has left.
  struct Case {
    std::vector<TensorView> matrices;
    std::vector<std::vector<int32_t>> lists;  // each with its length before it; empty: all rows
    std::vector<uint64_t> list_offsets;       // in bytes, where the device has them
    int64_t n_tokens = 1;
    size_t n_calls() const { return matrices.size() * std::max<size_t>(1, lists.size()); }
  };
  // As many matrices as fit, n_matrices at most.
  Result<Case> CaseOf(const placement::WeightRate& rate, uint64_t matrix_bytes, size_t n_matrices);
  Result<uint64_t> MatrixBytes(const placement::WeightRate& rate, Duration slot);
  // Returns the bytes it read.
  uint64_t Run(placement::WeightUse use, Case& test, size_t call);
  TensorView Weights(DType dtype, uint64_t begin_bytes, uint64_t n_bytes) const;
  void MatMul(const TensorView& w, int64_t n_tokens);

  // Waits until the device has done what it was asked.
  Status Finish() { return device_.Synchronize(); }
  // Seconds of `call`, a function that returns a Status, repeated for `slot`.
  template <typename Call>
  Result<double> SecondsOf(Duration slot, Call call);
  Status PlaceLists(Case* test);
  static Status SetFloats(const std::vector<float>& values, ProbeValues* to);

  kernels::Device& device_;
  // A device with memory of its own has many ops in its queue; they are timed many together.
  const bool is_apart_;
  const std::span<std::byte> region_;
  SteadyClock clock_;
  ProbeValues x_, y_;
  ProbeValues activations_;  // of the rows, by token; 0 where it does not need the row
  ProbeValues lists_;
  ProbeValues tiny_w_, tiny_x_, tiny_y_;
};

}  // namespace thermocline::worker
