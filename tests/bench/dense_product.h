// The dense product that sparse ones are measured against: NVIDIA's cuBLAS, where it is installed.
#pragma once

#include <memory>

#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"

namespace thermocline::bench {

// y = x w^T on a device's own queue: w[n_out, n_in] and x[1, n_in] of F16, y[1, n_out] of F16, all
// in the device's memory. One thread.
class DenseProduct {
 public:
  virtual ~DenseProduct() = default;
  virtual Status Run(TensorView w, TensorView x, TensorView y) = 0;
};

// kUnavailable when built without cuBLAS, when it is not there or does not start on this device,
// which outlives it.
Result<std::unique_ptr<DenseProduct>> MakeDenseProduct(kernels::Device& device);

}  // namespace thermocline::bench
