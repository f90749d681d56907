#include "tools/machine/random_weights.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/half.h"
#include "base/rng.h"
#include "kernels/blocks.h"

namespace thermocline::tools {
namespace {

// Where a block has its half-precision scales and what they are: of the largest quant the product
// is 0.1 at most. -1: no second one.
struct Scales {
  int at = 0;
  int second_at = -1;
  float value = 0;
};

Scales ScalesOf(DType dtype) {
  using namespace kernels;
  switch (dtype) {
    case DType::kQ8_0:
      return {Q8_0Layout::kScale, -1, 0.1f / 128};
    case DType::kQ4_0:
      return {Q4_0Layout::kScale, -1, 0.1f / 8};
    case DType::kQ4_K:  // times a scale of 6 bits and a quant of 4
      return {Q4_KLayout::kScale, Q4_KLayout::kMinScale, 0.1f / (64 * 16)};
    case DType::kQ5_K:
      return {Q5_KLayout::kScale, Q5_KLayout::kMinScale, 0.1f / (64 * 32)};
    case DType::kQ6_K:  // times a scale of 8 bits and a quant of 6
      return {Q6_KLayout::kScale, -1, 0.1f / (128 * 32)};
    default:
      return {};
  }
}

void FillRandom(uint64_t seed, std::byte* out, uint64_t n_bytes) {
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed),
                                       static_cast<uint32_t>(seed >> 32)};
  for (uint64_t at = 0; at < n_bytes; at += 16) {
    const auto words = Philox4x32({static_cast<uint32_t>(at >> 4), 0, 0, 2}, key);
    std::memcpy(out + at, words.data(), std::min<uint64_t>(16, n_bytes - at));
  }
}

// Random bits to a float below 0.1.
float SmallFloat(uint16_t bits) { return (static_cast<float>(bits) / 32768.0f - 1.0f) * 0.1f; }

void FillFloats(DType dtype, uint64_t n_elems, std::byte* out) {
  const uint64_t elem_bytes = Traits(dtype).block_bytes;
  for (uint64_t i = 0; i < n_elems; ++i) {
    uint16_t bits;
    std::memcpy(&bits, out + i * elem_bytes, sizeof bits);
    const float value = SmallFloat(bits);
    const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    if (dtype == DType::kF32) {
      std::memcpy(out + i * elem_bytes, &value, sizeof value);
    } else {
      std::memcpy(out + i * elem_bytes, &half, sizeof half);
    }
  }
}

}  // namespace

Result<Buffer> RandomWeights(DType dtype, int64_t n_rows, int64_t n_cols, uint64_t seed) {
  const auto n_elems = static_cast<uint64_t>(n_rows * n_cols);
  const uint64_t n_bytes = RowBytes(dtype, n_elems);
  TC_ASSIGN_OR_RETURN(Buffer buffer, Buffer::Allocate(n_bytes));
  FillRandom(seed, buffer.data(), n_bytes);
  if (IsFloat(dtype)) {
    FillFloats(dtype, n_elems, buffer.data());
    return buffer;
  }
  const Scales scales = ScalesOf(dtype);
  const uint16_t scale = F32ToF16(scales.value);
  for (uint64_t block = 0; block < n_bytes; block += Traits(dtype).block_bytes) {
    std::memcpy(buffer.data() + block + scales.at, &scale, sizeof scale);
    if (scales.second_at < 0) continue;
    std::memcpy(buffer.data() + block + scales.second_at, &scale, sizeof scale);
  }
  return buffer;
}

}  // namespace thermocline::tools
