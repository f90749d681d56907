// Where the fields of a quantised block lie, for every backend that decodes one.
//
// Source: the block definitions of the GGUF file format (ggml). Each decoded weight is the real
// value of its formula rounded once to F32: scales are products of a half and a small integer,
// which F32 holds exactly. So every backend decodes to the same bits, fused multiply-add or not.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thermocline::kernels {

static_assert(std::endian::native == std::endian::little, "GGUF data is little-endian");

// Elements that share a scale in Q8_0, Q4_0, Q4_K, Q5_K, and the step in which vector code decodes
// every type.
inline constexpr int kGroupElems = 32;
// Elements of a K super-block.
inline constexpr int kSuperElems = 256;
inline constexpr int kGroupsPerSuper = kSuperElems / kGroupElems;
// Elements of a Q6_K block that share a scale.
inline constexpr int kSubScaleElems = 16;

// w = d * q.
struct Q8_0Layout {
  static constexpr int kScale = 0, kQuants = 2;
};
// w = d * c, c a float of 8 bits (kernels/fp8.h). Of memory only, with fields where Q8_0's are.
using Fp8Layout = Q8_0Layout;
// w = d * (n - 8); byte j holds element j in its low nibble and element j + 16 in its high nibble.
struct Q4_0Layout {
  static constexpr int kScale = 0, kNibbles = 2, kOffset = 8;
};
// w = d * scale * n - dmin * min. Each run of 32 nibble bytes holds two groups: low nibbles, then
// high nibbles.
struct Q4_KLayout {
  static constexpr int kScale = 0, kMinScale = 2, kPacked = 4, kNibbles = 16;
};
// As Q4_K with a fifth bit: bit g of high byte j belongs to element j of group g.
struct Q5_KLayout {
  static constexpr int kScale = 0, kMinScale = 2, kPacked = 4, kHigh = 16, kNibbles = 48;
};
// w = d * scale * (q - 32), one int8 scale per 16 elements. Half h of the block (128 elements) has
// 64 bytes of low nibbles and 32 bytes of high bit pairs: its group g takes nibble g / 2 of bytes
// 32 * (g % 2) .. and bit pair g.
struct Q6_KLayout {
  static constexpr int kLow = 0, kHigh = 128, kScales = 192, kScale = 208, kOffset = 32;
};

inline uint16_t LoadU16(const void* bytes) {
  uint16_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

inline uint32_t LoadU32(const void* bytes) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

inline uint64_t LoadU64(const void* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// The 6-bit scales and mins of the 8 groups of a Q4_K or Q5_K block.
struct SuperScales {
  uint8_t scales[kGroupsPerSuper];
  uint8_t mins[kGroupsPerSuper];
};

// Groups 0-3 have their six bits in the low bits of bytes 0-3 (scales) and 4-7 (mins); groups 4-7
// have four bits in the nibbles of bytes 8-11 and their upper two on top of bytes 0-7.
inline SuperScales UnpackSuperScales(const void* packed) {
  const auto* bytes = static_cast<const uint8_t*>(packed);
  const uint32_t words[3] = {LoadU32(bytes), LoadU32(bytes + 4), LoadU32(bytes + 8)};
  constexpr uint32_t kSixBits = 0x3f3f3f3f, kFourBits = 0x0f0f0f0f, kTopBits = 0x30303030;
  const uint32_t scales[2] = {words[0] & kSixBits,
                              (words[2] & kFourBits) | ((words[0] >> 2) & kTopBits)};
  const uint32_t mins[2] = {words[1] & kSixBits,
                            ((words[2] >> 4) & kFourBits) | ((words[1] >> 2) & kTopBits)};
  SuperScales unpacked;
  std::memcpy(unpacked.scales, scales, sizeof(scales));
  std::memcpy(unpacked.mins, mins, sizeof(mins));
  return unpacked;
}

}  // namespace thermocline::kernels
