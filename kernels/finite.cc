// Looking for weights that are not numbers: by their bits, so that a row is checked at the speed at
// which it is read.
#include "kernels/blocks.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

// An exponent of all ones is infinite or not a number.
constexpr uint16_t kF16Exponent = 0x7c00;
constexpr uint16_t kBF16Exponent = 0x7f80;
constexpr uint32_t kF32Exponent = 0x7f800000;

bool AreFinite16(const std::byte* row, int64_t n, uint16_t exponent) {
  bool is_finite = true;
  for (int64_t i = 0; i < n; ++i) {
    is_finite &= (LoadU16(row + 2 * i) & exponent) != exponent;
  }
  return is_finite;
}

bool AreFinite32(const std::byte* row, int64_t n) {
  bool is_finite = true;
  for (int64_t i = 0; i < n; ++i) {
    is_finite &= (LoadU32(row + 4 * i) & kF32Exponent) != kF32Exponent;
  }
  return is_finite;
}

// One or two half scales in each block, at the given bytes.
bool AreScalesFinite(DType dtype, const std::byte* row, int64_t n_elems, int first, int second) {
  const auto block_bytes = static_cast<int64_t>(Traits(dtype).block_bytes);
  bool is_finite = true;
  for (int64_t b = 0; b < n_elems / Traits(dtype).block_elems; ++b) {
    is_finite &= AreFinite16(row + b * block_bytes + first, 1, kF16Exponent) &&
                 AreFinite16(row + b * block_bytes + second, 1, kF16Exponent);
  }
  return is_finite;
}

}  // namespace

bool IsFiniteRow(DType dtype, const std::byte* row, int64_t n_elems) {
  switch (dtype) {
    case DType::kF32:
      return AreFinite32(row, n_elems);
    case DType::kF16:
      return AreFinite16(row, n_elems, kF16Exponent);
    case DType::kBF16:
      return AreFinite16(row, n_elems, kBF16Exponent);
    case DType::kQ8_0:
    case DType::kQ4_0:
      static_assert(Q8_0Layout::kScale == Q4_0Layout::kScale);
      return AreScalesFinite(dtype, row, n_elems, Q4_0Layout::kScale, Q4_0Layout::kScale);
    case DType::kQ4_K:
    case DType::kQ5_K:
      static_assert(Q4_KLayout::kMinScale == Q5_KLayout::kMinScale);
      return AreScalesFinite(dtype, row, n_elems, Q4_KLayout::kScale, Q4_KLayout::kMinScale);
    case DType::kQ6_K:
      return AreScalesFinite(dtype, row, n_elems, Q6_KLayout::kScale, Q6_KLayout::kScale);
    case DType::kFp8E4M3:
    case DType::kFp8E5M2:
      return AreScalesFinite(dtype, row, n_elems, Fp8Layout::kScale, Fp8Layout::kScale);
    case DType::kI32:
      return true;
  }
  return true;
}

}  // namespace thermocline::kernels
