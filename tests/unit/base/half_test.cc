#include "base/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/rng.h"

namespace thermocline {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(F16, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float value = F16ToF32(bits);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(value)))) << h;
      continue;
    }
    ASSERT_EQ(F32ToF16(value), bits) << h;
  }
}

// The value by its definition, (-1)^s 2^(e-15) 1.m, computed another way than the code does.
TEST(F16, EveryFiniteValueIsItsDefinition) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const int exponent = static_cast<int>((h >> 10) & 0x1f);
    if (exponent == 0x1f) continue;
    const int mantissa = static_cast<int>(h & 0x3ff);
    double value =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if ((h & 0x8000) != 0) value = -value;
    ASSERT_EQ(static_cast<double>(F16ToF32(static_cast<uint16_t>(h))), value) << h;
  }
}

TEST(F16, SpecialValues) {
  EXPECT_EQ(F16ToF32(0x7c00), kInf);
  EXPECT_EQ(F16ToF32(0xfc00), -kInf);
  EXPECT_EQ(F32ToF16(kInf), 0x7c00);
  EXPECT_EQ(F32ToF16(-kInf), 0xfc00);
  EXPECT_EQ(F32ToF16(-0.0f), 0x8000);
  EXPECT_EQ(F32ToF16(65504.0f), 0x7bff);
  EXPECT_EQ(F32ToF16(65519.9f), 0x7bff);  // rounds down to the largest finite value
  EXPECT_EQ(F32ToF16(65520.0f), 0x7c00);  // the tie goes to even: infinity
  EXPECT_EQ(F32ToF16(0x1p-25f), 0x0000);  // the tie between 0 and 2^-24 goes to even
  EXPECT_EQ(F32ToF16(0x1.8p-25f), 0x0001);
  EXPECT_EQ(F32ToF16(0x3p-25f), 0x0002);  // the tie between 1 and 2 goes to even
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::nanf("")))));
}

// Halfway points between neighbours go to the even one, and a hair beside them to the nearer.
TEST(F16, RoundsToNearestEven) {
  for (uint16_t h = 0; h < 0x7bff; ++h) {
    const float low = F16ToF32(h);
    const float high = F16ToF32(static_cast<uint16_t>(h + 1));
    const float middle = low + (high - low) / 2;  // exact: one bit more than F16 has
    ASSERT_EQ(F32ToF16(middle), (h & 1) == 0 ? h : h + 1) << h;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), h) << h;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, kInf)), h + 1) << h;
  }
}

TEST(BF16, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const auto bits = static_cast<uint16_t>(b);
    const float value = BF16ToF32(bits);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(value)))) << b;
      continue;
    }
    ASSERT_EQ(F32ToBF16(value), bits) << b;
  }
}

TEST(BF16, RoundsToNearestEven) {
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie, even below
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie, even above
  EXPECT_EQ(F32ToBF16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(F32ToBF16(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace thermocline
