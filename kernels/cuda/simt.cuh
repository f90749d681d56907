// What a kernel is written in, for two compilers: nvcc, for GPUs, and the host's, for the emulator.
//
// A kernel is a function TC_KERNEL that every thread of a grid runs; what it calls is TC_DEVICE.
// Both versions of everything lie in a namespace of their own, so that one program may hold both.
// Sums are written with Fma, or with operators where each rounding is meant: nvcc is told not to
// fuse on its own (-fmad=false), as is the host's compiler.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor_view.h"

#if defined(__CUDACC__)
#include <cuda_fp16.h>

#define TC_SIMT gpu
#define TC_KERNEL __global__ void
#define TC_DEVICE __device__ __forceinline__
#define TC_SHARED __shared__
#define TC_UNROLL _Pragma("unroll")
#else
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/cuda/emulator.h"

#define TC_SIMT emulated
#define TC_KERNEL inline void
#define TC_DEVICE inline
// Blocks run one after the other on one thread of the host, so they can share what is static.
#define TC_SHARED static thread_local
#define TC_UNROLL
#endif

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kWarp = 32;
inline constexpr float kInfinity = __builtin_huge_valf();

struct Index3 {
  int x, y, z;
};

// Where a grid's blocks are: x varies fastest. y and z are at most 65535.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// 16, 8 or 4 bytes in registers, as loaded by one instruction.
template <int kDwords>
struct Dwords {
  uint32_t v[kDwords];
};

#if defined(__CUDACC__)

TC_DEVICE int ThreadIndex() { return static_cast<int>(threadIdx.x); }
TC_DEVICE int ThreadCount() { return static_cast<int>(blockDim.x); }
TC_DEVICE Index3 BlockIndex() {
  return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)};
}
TC_DEVICE Index3 BlockCount() {
  return {static_cast<int>(gridDim.x), static_cast<int>(gridDim.y), static_cast<int>(gridDim.z)};
}
TC_DEVICE void SyncBlock() { __syncthreads(); }
TC_DEVICE void SyncWarp() { __syncwarp(); }

template <typename T>
TC_DEVICE T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
template <typename T>
TC_DEVICE T ShuffleUp(T value, int distance) {
  return __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(distance));
}
TC_DEVICE uint32_t Ballot(bool bit) { return __ballot_sync(0xffffffffu, bit); }

// The sum of all lanes, the same bits in each: lanes meet at distances 16, 8, 4, 2, 1.
template <typename T>
TC_DEVICE T WarpSum(T value) {
  TC_UNROLL for (int d = kWarp / 2; d > 0; d /= 2) value += ShuffleXor(value, d);
  return value;
}
TC_DEVICE float WarpMax(float value) {
  TC_UNROLL for (int d = kWarp / 2; d > 0; d /= 2) value = fmaxf(value, ShuffleXor(value, d));
  return value;
}

TC_DEVICE float Fma(float a, float b, float c) { return fmaf(a, b, c); }
TC_DEVICE float Exp(float x) { return expf(x); }
TC_DEVICE float HalfToFloat(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
TC_DEVICE uint16_t FloatToHalf(float value) { return __half_as_ushort(__float2half_rn(value)); }
TC_DEVICE float BitsToFloat(uint32_t bits) { return __uint_as_float(bits); }
TC_DEVICE uint32_t FloatToBits(float value) { return __float_as_uint(value); }
TC_DEVICE int RoundToInt(float x) { return __float2int_rn(x); }
TC_DEVICE int CountBits(uint32_t bits) { return __popc(bits); }
// c + the sum of the four products of signed bytes.
TC_DEVICE int Dp4a(uint32_t a, uint32_t b, int c) {
#if __CUDA_ARCH__ >= 610
  return __dp4a(static_cast<int>(a), static_cast<int>(b), c);
#else
  return c;  // never compiled for: architectures begin at 70
#endif
}
TC_DEVICE void AtomicAdd(uint64_t* sum, uint64_t n) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(n));
}

TC_DEVICE Dwords<4> Load16(const void* p) {
  const uint4 v = __ldg(static_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}
TC_DEVICE Dwords<2> Load8(const void* p) {
  const uint2 v = __ldg(static_cast<const uint2*>(p));
  return {{v.x, v.y}};
}
TC_DEVICE uint32_t Load4(const void* p) { return __ldg(static_cast<const uint32_t*>(p)); }
TC_DEVICE uint16_t Load2(const void* p) { return __ldg(static_cast<const uint16_t*>(p)); }

template <typename... Params, typename... Args>
void Launch(void (*kernel)(Params...), Grid grid, int n_threads, void* stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  kernel<<<blocks, static_cast<unsigned>(n_threads), 0, static_cast<cudaStream_t>(stream)>>>(
      args...);
}

#else

TC_DEVICE int ThreadIndex() { return emulator::Here().thread; }
TC_DEVICE int ThreadCount() { return emulator::Here().n_threads; }
TC_DEVICE Index3 BlockIndex() {
  const emulator::Place& here = emulator::Here();
  return {here.block[0], here.block[1], here.block[2]};
}
TC_DEVICE Index3 BlockCount() {
  const emulator::Place& here = emulator::Here();
  return {here.n_blocks[0], here.n_blocks[1], here.n_blocks[2]};
}
TC_DEVICE void SyncBlock() { emulator::MeetBlock(); }
TC_DEVICE void SyncWarp() { emulator::MeetWarp(0); }

template <typename T>
TC_DEVICE T FromSlot(uint64_t slot) {
  T value;
  std::memcpy(&value, &slot, sizeof(value));
  return value;
}
template <typename T>
TC_DEVICE const uint64_t* MeetWith(T value) {
  uint64_t slot = 0;
  std::memcpy(&slot, &value, sizeof(value));
  return emulator::MeetWarp(slot);
}
template <typename T>
TC_DEVICE T ShuffleXor(T value, int mask) {
  const uint64_t* lanes = MeetWith(value);
  return FromSlot<T>(lanes[(ThreadIndex() % kWarp) ^ mask]);
}
template <typename T>
TC_DEVICE T ShuffleUp(T value, int distance) {
  const uint64_t* lanes = MeetWith(value);
  const int lane = ThreadIndex() % kWarp;
  return lane < distance ? value : FromSlot<T>(lanes[lane - distance]);
}
TC_DEVICE uint32_t Ballot(bool bit) {
  const uint64_t* lanes = MeetWith(static_cast<uint32_t>(bit));
  uint32_t bits = 0;
  for (int lane = 0; lane < kWarp; ++lane) bits |= static_cast<uint32_t>(lanes[lane]) << lane;
  return bits;
}

// What a GPU does by shuffles, at one meeting: the same sums in the same order.
template <typename T, typename Combine>
TC_DEVICE T WarpCombine(T value, Combine combine) {
  const uint64_t* lanes = MeetWith(value);
  T values[kWarp];
  for (int lane = 0; lane < kWarp; ++lane) values[lane] = FromSlot<T>(lanes[lane]);
  for (int d = kWarp / 2; d > 0; d /= 2) {
    for (int lane = 0; lane < d; ++lane) values[lane] = combine(values[lane], values[lane + d]);
  }
  return values[0];
}
template <typename T>
TC_DEVICE T WarpSum(T value) {
  return WarpCombine(value, [](T a, T b) { return a + b; });
}
TC_DEVICE float WarpMax(float value) {
  return WarpCombine(value, [](float a, float b) { return std::fmax(a, b); });
}

TC_DEVICE float Fma(float a, float b, float c) { return std::fma(a, b, c); }
TC_DEVICE float Exp(float x) { return std::exp(x); }
TC_DEVICE float HalfToFloat(uint16_t bits) { return F16ToF32(bits); }
TC_DEVICE uint16_t FloatToHalf(float value) { return F32ToF16(value); }
TC_DEVICE float BitsToFloat(uint32_t bits) { return std::bit_cast<float>(bits); }
TC_DEVICE uint32_t FloatToBits(float value) { return std::bit_cast<uint32_t>(value); }
// What is beyond an int, or no number, becomes what the GPU's instruction makes of it.
TC_DEVICE int RoundToInt(float x) {
  if (x != x) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  if (x < -0x1p31f) return INT32_MIN;
  return static_cast<int>(std::nearbyint(x));
}
TC_DEVICE int CountBits(uint32_t bits) { return __builtin_popcount(bits); }
TC_DEVICE int Dp4a(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}
TC_DEVICE void AtomicAdd(uint64_t* sum, uint64_t n) { *sum += n; }

// As on a GPU, an address must be a multiple of the size.
template <typename T>
TC_DEVICE T LoadAligned(const void* p, uintptr_t n_bytes) {
  emulator::CheckAligned(p, n_bytes);
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}
TC_DEVICE Dwords<4> Load16(const void* p) { return LoadAligned<Dwords<4>>(p, 16); }
TC_DEVICE Dwords<2> Load8(const void* p) { return LoadAligned<Dwords<2>>(p, 8); }
TC_DEVICE uint32_t Load4(const void* p) { return LoadAligned<uint32_t>(p, 4); }
TC_DEVICE uint16_t Load2(const void* p) { return LoadAligned<uint16_t>(p, 2); }

template <typename... Params, typename... Args>
void Launch(void (*kernel)(Params...), Grid grid, int n_threads, void* stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  emulator::Enqueue(stream, {{grid.x, grid.y, grid.z}, n_threads}, [=] { kernel(args...); });
}

#endif

TC_DEVICE float BF16BitsToFloat(uint32_t bits) { return BitsToFloat(bits << 16); }
TC_DEVICE int64_t Min(int64_t a, int64_t b) { return a < b ? a : b; }
TC_DEVICE float* F32Row(const TensorView& view, int64_t i) {
  return reinterpret_cast<float*>(view.data + i * view.row_stride_bytes);
}
TC_DEVICE int Lane() { return ThreadIndex() % kWarp; }
TC_DEVICE int Warp() { return ThreadIndex() / kWarp; }

}  // namespace thermocline::kernels::cuda::TC_SIMT
