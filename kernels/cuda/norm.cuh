// RMS norm, layer norm and rope: a block per token.
//
// Sums of a row are in double: 8192 elements are 32 additions per thread, nothing beside the
// launch, and no error is left to speak of.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/rows.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kNormThreads = 256;

// The sum over the block, the same in every thread; `shared` has room for a value per warp.
TC_DEVICE double BlockSum(double value, double* shared) {
  const double sum = WarpSum(value);
  SyncBlock();
  if (Lane() == 0) shared[Warp()] = sum;
  SyncBlock();
  double total = 0;
  for (int warp = 0; warp < ThreadCount() / kWarp; ++warp) total += shared[warp];
  return total;
}

// Element i of the first row of a float view.
TC_DEVICE float FloatAt(const TensorView& view, int64_t i) {
  if (view.dtype == DType::kF32) return reinterpret_cast<const float*>(view.data)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(view.data)[i];
  return view.dtype == DType::kF16 ? HalfToFloat(bits) : BF16BitsToFloat(bits);
}

TC_KERNEL RmsNormKernel(TensorView x, TensorView weight, float eps, TensorView y) {
  TC_SHARED double shared[kNormThreads / kWarp];
  const float* const in = F32Row(x, BlockIndex().x);
  float* const out = F32Row(y, BlockIndex().x);
  double sum = 0;
  for (int64_t i = ThreadIndex(); i < x.n_cols; i += kNormThreads) {
    sum += static_cast<double>(in[i]) * static_cast<double>(in[i]);
  }
  const double mean = BlockSum(sum, shared) / static_cast<double>(x.n_cols);
  const double scale = 1.0 / sqrt(mean + static_cast<double>(eps));
  for (int64_t i = ThreadIndex(); i < x.n_cols; i += kNormThreads) {
    out[i] = static_cast<float>(in[i] * scale * static_cast<double>(FloatAt(weight, i)));
  }
}

TC_KERNEL LayerNormKernel(TensorView x, TensorView weight, TensorView bias, float eps,
                          TensorView y) {
  TC_SHARED double shared[kNormThreads / kWarp];
  const float* const in = F32Row(x, BlockIndex().x);
  float* const out = F32Row(y, BlockIndex().x);
  const double n = static_cast<double>(x.n_cols);
  double sum = 0;
  for (int64_t i = ThreadIndex(); i < x.n_cols; i += kNormThreads) sum += in[i];
  const double mean = BlockSum(sum, shared) / n;
  double squares = 0;
  for (int64_t i = ThreadIndex(); i < x.n_cols; i += kNormThreads) {
    squares += (in[i] - mean) * (in[i] - mean);
  }
  const double scale = 1.0 / sqrt(BlockSum(squares, shared) / n + static_cast<double>(eps));
  for (int64_t i = ThreadIndex(); i < x.n_cols; i += kNormThreads) {
    const double shift = bias.data == nullptr ? 0.0 : static_cast<double>(FloatAt(bias, i));
    out[i] = static_cast<float>((in[i] - mean) * scale * static_cast<double>(FloatAt(weight, i)) +
                                shift);
  }
}

// Angles are products in double, brought within half a turn there: sines of large F32 angles would
// be off by as much as the angle. What is left is a float and its rest, which adds to first order.
TC_KERNEL RopeKernel(RopeJob job) {
  const int64_t position = job.positions[BlockIndex().x];
  float* const row = F32Row(job.x, BlockIndex().x);
  const int n_pairs = job.n_rot / 2;
  const int64_t n_heads = job.x.n_cols / job.head_dim;
  constexpr double kTurn = 6.283185307179586476925286766559;
  for (int pair = ThreadIndex(); pair < n_pairs; pair += kNormThreads) {
    const double angle = static_cast<double>(position) * job.frequencies[pair];
    const double left = angle - kTurn * rint(angle / kTurn);
    const float near = static_cast<float>(left);
    const float rest = static_cast<float>(left - static_cast<double>(near));
    const float sine_near = sinf(near), cosine_near = cosf(near);
    const float sine = Fma(rest, cosine_near, sine_near);
    const float cosine = Fma(-rest, sine_near, cosine_near);
    for (int64_t head = 0; head < n_heads; ++head) {
      float* const first = row + head * job.head_dim + (job.is_adjacent ? 2 * pair : pair);
      float* const second = job.is_adjacent ? first + 1 : first + n_pairs;
      const float a = *first, b = *second;
      *first = a * cosine - b * sine;
      *second = a * sine + b * cosine;
    }
  }
}

void RmsNorm(void* stream, const TensorView& x, const TensorView& weight, float eps,
             const TensorView& y) {
  Launch(RmsNormKernel, {x.n_rows}, kNormThreads, stream, x, weight, eps, y);
}
void LayerNorm(void* stream, const TensorView& x, const TensorView& weight, const TensorView& bias,
               float eps, const TensorView& y) {
  Launch(LayerNormKernel, {x.n_rows}, kNormThreads, stream, x, weight, bias, eps, y);
}
void Rope(void* stream, const RopeJob& job) {
  Launch(RopeKernel, {job.x.n_rows}, kNormThreads, stream, job);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
