// Element types of tensors and the size of their blocks.
//
// Source of the block layouts: the GGUF file format (ggml's block definitions). Quantised types
// store a row as whole blocks, so a row's length is a multiple of the block. FP8 types are of
// memory only: no file has them.
#pragma once

#include <cstdint>
#include <string_view>

namespace thermocline {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kI32,
  kFp8E4M3,
  kFp8E5M2
};
inline constexpr int kNumDTypes = 11;

struct DTypeTraits {
  std::string_view name;
  uint32_t block_elems;  // weights per block
  uint32_t block_bytes;  // bytes per block
};

// 32-element blocks: f16 scale + 32 int8 (Q8_0) or 16 nibble pairs (Q4_0). 256-element
// super-blocks: Q4_K f16 d,dmin + 12 scale bytes + 128; Q5_K the same + 32 high-bit bytes; Q6_K 128
// low + 64 high + 16 int8 scales + f16 d. FP8: f16 scale + 32 codes of 8 bits.
constexpr DTypeTraits Traits(DType type) {
  switch (type) {
    case DType::kF32:
      return {"F32", 1, 4};
    case DType::kF16:
      return {"F16", 1, 2};
    case DType::kBF16:
      return {"BF16", 1, 2};
    case DType::kQ8_0:
      return {"Q8_0", 32, 34};
    case DType::kQ4_0:
      return {"Q4_0", 32, 18};
    case DType::kQ4_K:
      return {"Q4_K", 256, 144};
    case DType::kQ5_K:
      return {"Q5_K", 256, 176};
    case DType::kQ6_K:
      return {"Q6_K", 256, 210};
    case DType::kI32:
      return {"I32", 1, 4};
    case DType::kFp8E4M3:
      return {"FP8_E4M3", 32, 34};
    case DType::kFp8E5M2:
      return {"FP8_E5M2", 32, 34};
  }
  return {"?", 1, 1};
}

constexpr std::string_view DTypeName(DType type) { return Traits(type).name; }

// Bytes of a row of `n_elems`, which must be a multiple of the type's block.
constexpr uint64_t RowBytes(DType type, uint64_t n_elems) {
  return n_elems / Traits(type).block_elems * Traits(type).block_bytes;
}

constexpr bool IsFloat(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

constexpr bool IsFp8(DType type) { return type == DType::kFp8E4M3 || type == DType::kFp8E5M2; }

}  // namespace thermocline
