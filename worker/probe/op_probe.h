// How fast a device's own ops work through weights, by type: what a cost model needs to know beyond
// the bandwidth of the memory, since unpacking and multiplying hide behind reading only in part.
#pragma once

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
  // One call of an op on rows that are in no cache, and what it reads.
  struct Case {
    TensorView weights;
    int64_t n_tokens = 1;
    uint64_t bytes = 0;
  };
  Case CaseOf(const placement::WeightRate& rate);
  void Run(placement::WeightUse use, const Case& test);
  void Evict(const Case& test) const;
  TensorView Weights(DType dtype, uint64_t n_bytes) const;
  void MatMul(const TensorView& w, int64_t n_tokens);
  void ChooseRows(int64_t n_rows, double share);
  void WakeThreads();

  kernels::Device& device_;
  const std::span<std::byte> region_;
  SteadyClock clock_;
  std::vector<float> x_, y_;
  std::vector<uint16_t> tiny_w_;
  std::vector<float> tiny_x_, tiny_y_;
  std::vector<int32_t> ids_;  // of the rows that are read
  int32_t n_ids_ = 0;
};

}  // namespace thermocline::worker
