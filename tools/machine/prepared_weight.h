// A weight in a device's memory, laid out as its ops read it fastest.
#pragma once

#include "base/buffer.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"

namespace thermocline::tools {

// Owns its memory.
struct PreparedWeight {
  Buffer buffer;
  TensorView view;
};

// Copies w, which lies as in a model's file: what a stage does with its weights, for measurements
// that have no model. kResourceExhausted without memory.
Result<PreparedWeight> PrepareWeight(kernels::Device& device, TensorView w);

}  // namespace thermocline::tools
