#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

constexpr uint16_t kHalfOne = 0x3c00, kHalfHalf = 0x3800, kHalfQuarter = 0x3400, kHalfTwo = 0x4000;

void PutHalf(std::vector<uint8_t>& block, size_t offset, uint16_t bits) {
  block[offset] = static_cast<uint8_t>(bits & 0xff);
  block[offset + 1] = static_cast<uint8_t>(bits >> 8);
}

std::vector<float> Decode(DType dtype, const std::vector<uint8_t>& bytes, int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  DequantizeRow(dtype, reinterpret_cast<const std::byte*>(bytes.data()), n, values.data());
  return values;
}

TEST(DequantizeTest, Floats) {
  EXPECT_EQ(Decode(DType::kF16, {0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00}, 3),
            (std::vector<float>{1.0f, -2.0f, 0x1p-24f}));
  EXPECT_EQ(Decode(DType::kBF16, {0x80, 0x3f, 0x49, 0xc0}, 2),
            (std::vector<float>{1.0f, -3.140625f}));
  EXPECT_EQ(Decode(DType::kF32, {0, 0, 0x80, 0x3f}, 1), std::vector<float>{1.0f});
  EXPECT_EQ(Decode(DType::kI32, {0xfe, 0xff, 0xff, 0xff}, 1), std::vector<float>{-2.0f});
  EXPECT_TRUE(Decode(DType::kF32, {}, 0).empty());
}

// Every half there is, against the definition sign * 2^(e-25) * (1024 + m).
TEST(DequantizeTest, AllHalves) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = (bits >> 10) & 0x1f;
    if (exponent == 0x1f) continue;  // infinities and NaN
    const int mantissa = bits & 0x3ff;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    const float value = F16ToF32(static_cast<uint16_t>(bits));
    ASSERT_EQ(value, (bits & 0x8000) != 0 ? -magnitude : magnitude) << bits;
    ASSERT_EQ(F32ToF16(value), bits);
  }
}

TEST(DequantizeTest, HalvesRoundToNearestEven) {
  EXPECT_EQ(F32ToF16(1.0f + 0x1p-11f), 0x3c00);      // half way: to the even neighbour
  EXPECT_EQ(F32ToF16(1.0f + 3 * 0x1p-11f), 0x3c02);  // half way: to the even neighbour
  EXPECT_EQ(F32ToF16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(F32ToF16(65519.0f), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(F32ToF16(0x1p-25f), 0x0000);
  EXPECT_EQ(F32ToBF16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(F32ToBF16(1.0f + 3 * 0x1p-8f), 0x3f82);
}

TEST(DequantizeTest, Q8_0) {
  std::vector<uint8_t> block(34, 0);
  PutHalf(block, 0, kHalfQuarter);
  block[2] = 127, block[3] = 0x80, block[33] = 0xff;
  const auto values = Decode(DType::kQ8_0, block, 32);
  EXPECT_EQ(values[0], 31.75f);
  EXPECT_EQ(values[1], -32.0f);
  EXPECT_EQ(values[2], 0.0f);
  EXPECT_EQ(values[31], -0.25f);
}

TEST(DequantizeTest, Q4_0) {
  std::vector<uint8_t> block(18, 0x88);
  PutHalf(block, 0, kHalfTwo);
  block[2] = 0xf0;   // element 0: 0, element 16: 15
  block[17] = 0x19;  // element 15: 9, element 31: 1
  const auto values = Decode(DType::kQ4_0, block, 32);
  EXPECT_EQ(values[0], -16.0f);
  EXPECT_EQ(values[16], 14.0f);
  EXPECT_EQ(values[15], 2.0f);
  EXPECT_EQ(values[31], -14.0f);
  EXPECT_EQ(values[1], 0.0f);
}

// Scale bytes 4..15 of a K block. Group 1: scale 5, min 7. Group 6: scale 0b101101 = 45 (low nibble
// 13 in byte 10, top bits 2 on byte 2), min 0b110010 = 50 (high nibble 2 in byte 10, top bits 3 on
// byte 6).
void PutScales(std::vector<uint8_t>& block) {
  block[4 + 1] = 5;
  block[4 + 5] = 7;
  block[4 + 2] = 2 << 6;
  block[4 + 6] = 3 << 6;
  block[4 + 10] = (2 << 4) | 13;
}

TEST(DequantizeTest, Q4_K) {
  std::vector<uint8_t> block(144, 0);
  PutHalf(block, 0, kHalfHalf);
  PutHalf(block, 2, kHalfQuarter);
  PutScales(block);
  block[16 + 3] = 0xb4;        // group 0, element 3: 4; group 1, element 3: 11
  block[16 + 96 + 31] = 0xc9;  // group 6, element 31: 9; group 7: 12
  const auto values = Decode(DType::kQ4_K, block, 256);
  EXPECT_EQ(values[3], 0.0f);  // group 0 has scale 0 and min 0
  EXPECT_EQ(values[32 + 3], 0.5f * 5 * 11 - 0.25f * 7);
  EXPECT_EQ(values[32 + 4], -0.25f * 7);
  EXPECT_EQ(values[192 + 31], 0.5f * 45 * 9 - 0.25f * 50);
  EXPECT_EQ(values[224 + 31], 0.0f);
}

TEST(DequantizeTest, Q5_K) {
  std::vector<uint8_t> block(176, 0);
  PutHalf(block, 0, kHalfHalf);
  PutHalf(block, 2, kHalfQuarter);
  PutScales(block);
  block[16 + 3] = 1 << 1;   // fifth bit of element 3 of group 1
  block[16 + 31] = 1 << 6;  // fifth bit of element 31 of group 6
  block[48 + 3] = 0xb4;
  block[48 + 96 + 31] = 0xc9;
  const auto values = Decode(DType::kQ5_K, block, 256);
  EXPECT_EQ(values[32 + 3], 0.5f * 5 * 27 - 0.25f * 7);
  EXPECT_EQ(values[32 + 31], -0.25f * 7);
  EXPECT_EQ(values[192 + 31], 0.5f * 45 * 25 - 0.25f * 50);
}

TEST(DequantizeTest, Q6_K) {
  std::vector<uint8_t> block(210, 0);
  PutHalf(block, 208, kHalfOne);
  for (size_t i = 0; i < 16; ++i) block[192 + i] = static_cast<uint8_t>(i + 1);
  block[192 + 15] = 0xfe;          // the last scale is -2
  block[5] = 0xa3;                 // half 0: element 5 low 3, element 69 low 10
  block[128 + 5] = 0b10'01'00'11;  // pairs of elements 5, 37, 69, 101: 3, 0, 1, 2
  block[64 + 32 + 31] = 0x70;      // half 1: element 63 low 0, element 127 low 7
  block[128 + 32 + 31] = 0b01'00'10'00;
  const auto values = Decode(DType::kQ6_K, block, 256);
  EXPECT_EQ(values[5], 1.0f * (51 - 32));
  EXPECT_EQ(values[37], 3.0f * (0 - 32));
  EXPECT_EQ(values[69], 5.0f * (26 - 32));
  EXPECT_EQ(values[101], 7.0f * (32 - 32));
  EXPECT_EQ(values[128 + 63], 12.0f * (32 - 32));
  EXPECT_EQ(values[128 + 127], -2.0f * (23 - 32));
  EXPECT_EQ(values[0], 1.0f * -32);
}

}  // namespace
}  // namespace thermocline::kernels
