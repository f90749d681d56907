// Activation functions of one element.
#pragma once

#include "kernels/cuda/simt.cuh"
#include "kernels/operands.h"

namespace thermocline::kernels::cuda::TC_SIMT {

TC_DEVICE float Activated(Activation kind, float x) {
  if (kind == Activation::kSilu) return x / (1.0f + Exp(-x));
  const float positive = x > 0 ? x : 0.0f;
  return kind == Activation::kRelu ? positive : positive * positive;
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
