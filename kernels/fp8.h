// Floats of 8 bits: E4M3 (4 bits of exponent, 3 of mantissa) and E5M2, as codes.
//
// Source: Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433, table 1, and the
// OCP 8-bit Floating Point Specification (OFP8). E5M2 is the upper byte of an F16, infinities and
// NaN included. E4M3 has exponents of bias 7, no infinity, and one NaN per sign, all bits set; its
// bits, moved to where an F16 has them, are that F16 times 2^-8. So both are decoded by a shift and
// a product on whatever reads F16. What is constexpr here runs on either side of nvcc.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "base/half.h"

namespace thermocline::kernels {

// How a format's bits are shared out. kMax: the code of its largest finite value; all codes below
// are finite. kNaN: what NaN is encoded as.
struct E4M3 {
  static constexpr int kMantissaBits = 3, kBias = 7;
  static constexpr uint8_t kMax = 0x7e, kNaN = 0x7f;
  static constexpr float kMaxValue = 448;  // 1.75 * 2^8
};
struct E5M2 {
  static constexpr int kMantissaBits = 2, kBias = 15;
  static constexpr uint8_t kMax = 0x7b, kNaN = 0x7e;
  static constexpr float kMaxValue = 57344;  // 1.75 * 2^15
};

// The F16 of a code: of E5M2 the value, of E4M3 one kE4M3OfHalf-th of it, but for its NaN.
inline constexpr float kE4M3OfHalf = 256;
constexpr uint16_t HalfOfE5M2(uint32_t code) { return static_cast<uint16_t>(code << 8); }
constexpr uint16_t HalfOfE4M3(uint32_t code) {
  return static_cast<uint16_t>(((code & 0x80u) << 8) | ((code & 0x7fu) << 7));
}

inline float DecodeE5M2(uint8_t code) { return F16ToF32(HalfOfE5M2(code)); }
inline float DecodeE4M3(uint8_t code) {
  if ((code & 0x7f) == E4M3::kNaN) return std::numeric_limits<float>::quiet_NaN();
  return F16ToF32(HalfOfE4M3(code)) * kE4M3OfHalf;
}

// The nearest code, of two the even one. Beyond the largest finite value, infinities included, it
// is that one: weights saturate. NaN stays NaN, without its sign.
template <typename Format>
constexpr uint8_t EncodeFp8(float value) {
  constexpr int kBits = Format::kMantissaBits;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Format::kNaN;
  constexpr int kDropped = 23 - kBits;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  uint32_t code = 0;
  if (exponent >= 1 - Format::kBias) {
    const uint32_t odd = (magnitude >> kDropped) & 1u;
    const uint32_t rounded = magnitude + (1u << (kDropped - 1)) - 1 + odd;
    code = (rounded >> kDropped) - (static_cast<uint32_t>(127 - Format::kBias) << kBits);
    if (code > Format::kMax) code = Format::kMax;
  } else {
    // Below the smallest normal value: a count of its last places. From 25 bits on, half a place is
    // more than there is.
    const int dropped = kDropped + 1 - Format::kBias - exponent;
    if (dropped <= 24) {
      const uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
      const uint32_t odd = (mantissa >> dropped) & 1u;
      code = (mantissa + (1u << (dropped - 1)) - 1 + odd) >> dropped;
    }
  }
  return static_cast<uint8_t>(sign | code);
}

}  // namespace thermocline::kernels
