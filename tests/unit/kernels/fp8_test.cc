// Codes of 8 bits against values and roundings that are written down another way: by powers of two
// and by looking at every code.
#include "kernels/fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/device.h"
#include "kernels/lanes.h"
#include "kernels/quantize.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// What distinguishes the formats, from the tables of their specification.
struct E4M3Oracle {
  using Format = E4M3;
  static constexpr int kMantissaBits = 3, kBias = 7, kLargestFinite = 0x7e;
  static constexpr float kLargest = 448, kSmallest = 0x1p-9f;
  static constexpr DType kType = DType::kFp8E4M3;
  static float Decode(uint8_t code) { return DecodeE4M3(code); }
  static bool IsNaN(int magnitude) { return magnitude == 0x7f; }
  static bool IsInfinite(int) { return false; }
};
struct E5M2Oracle {
  using Format = E5M2;
  static constexpr int kMantissaBits = 2, kBias = 15, kLargestFinite = 0x7b;
  static constexpr float kLargest = 57344, kSmallest = 0x1p-16f;
  static constexpr DType kType = DType::kFp8E5M2;
  static float Decode(uint8_t code) { return DecodeE5M2(code); }
  static bool IsNaN(int magnitude) { return magnitude > 0x7c; }
  static bool IsInfinite(int magnitude) { return magnitude == 0x7c; }
};

template <typename Oracle>
double ValueOf(int code) {
  const int magnitude = code & 0x7f;
  const int exponent = magnitude >> Oracle::kMantissaBits;
  const double mantissa =
      std::ldexp(magnitude & ((1 << Oracle::kMantissaBits) - 1), -Oracle::kMantissaBits);
  const double value = exponent == 0 ? std::ldexp(mantissa, 1 - Oracle::kBias)
                                     : std::ldexp(1 + mantissa, exponent - Oracle::kBias);
  return code & 0x80 ? -value : value;
}

// The nearest finite value of any code, of two the one whose code is even; what is beyond all of
// them is nearest to the last.
template <typename Oracle>
int NearestCode(float value) {
  int best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (int magnitude = 0; magnitude <= Oracle::kLargestFinite; ++magnitude) {
    const double away =
        std::isinf(value)
            ? Oracle::kLargestFinite - magnitude
            : std::abs(ValueOf<Oracle>(magnitude) - std::abs(static_cast<double>(value)));
    if (away < least || (away == least && magnitude % 2 == 0)) best = magnitude, least = away;
  }
  return best | (std::signbit(value) ? 0x80 : 0);
}

template <typename Oracle>
class Fp8Test : public ::testing::Test {
 protected:
  static void ExpectEncoded(float value) {
    EXPECT_EQ(int{EncodeFp8<typename Oracle::Format>(value)}, NearestCode<Oracle>(value)) << value;
  }
};
using Oracles = ::testing::Types<E4M3Oracle, E5M2Oracle>;
TYPED_TEST_SUITE(Fp8Test, Oracles);

TYPED_TEST(Fp8Test, EveryCodeHasTheValueThatItsBitsSay) {
  for (int code = 0; code < 256; ++code) {
    const float value = TypeParam::Decode(static_cast<uint8_t>(code));
    if (TypeParam::IsNaN(code & 0x7f)) {
      EXPECT_TRUE(std::isnan(value)) << code;
    } else if (TypeParam::IsInfinite(code & 0x7f)) {
      EXPECT_EQ(value, code & 0x80 ? -kInf : kInf) << code;
    } else {
      EXPECT_EQ(double{value}, ValueOf<TypeParam>(code)) << code;
      EXPECT_EQ(std::signbit(value), (code & 0x80) != 0) << code;
      EXPECT_EQ(int{EncodeFp8<typename TypeParam::Format>(value)}, code);
    }
  }
  using Format = typename TypeParam::Format;
  EXPECT_EQ(TypeParam::Decode(Format::kMax), TypeParam::kLargest);
  EXPECT_EQ(Format::kMaxValue, TypeParam::kLargest);
  EXPECT_EQ(TypeParam::Decode(1), TypeParam::kSmallest);
}

TYPED_TEST(Fp8Test, RoundsToTheNearestAndOfTwoToTheEvenCode) {
  for (int code = 0; code < TypeParam::kLargestFinite; ++code) {
    const auto low = static_cast<float>(ValueOf<TypeParam>(code));
    const auto high = static_cast<float>(ValueOf<TypeParam>(code + 1));
    const float middle = (low + high) / 2;
    for (const float value : {low, middle, std::nextafterf(middle, 0),
                              std::nextafterf(middle, kInf), std::nextafterf(high, 0)}) {
      this->ExpectEncoded(value);
      this->ExpectEncoded(-value);
    }
  }
}

TYPED_TEST(Fp8Test, EveryHalfIsEncodedAsTheOracleDoes) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = F16ToF32(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) this->ExpectEncoded(value);
  }
}

TYPED_TEST(Fp8Test, WhatIsBeyondSaturatesAndNaNStays) {
  using Format = typename TypeParam::Format;
  for (const float value : {TypeParam::kLargest, 1.01f * TypeParam::kLargest, 1e30f, kInf,
                            std::numeric_limits<float>::max()}) {
    EXPECT_EQ(EncodeFp8<Format>(value), Format::kMax) << value;
    EXPECT_EQ(EncodeFp8<Format>(-value), Format::kMax | 0x80) << value;
  }
  EXPECT_TRUE(std::isnan(TypeParam::Decode(EncodeFp8<Format>(kNaN))));
  EXPECT_TRUE(std::isnan(TypeParam::Decode(EncodeFp8<Format>(-kNaN))));
  for (const float tiny : {0.0f, 1e-45f, 1e-38f, 0x1p-25f, TypeParam::kSmallest / 2}) {
    EXPECT_EQ(EncodeFp8<Format>(tiny), 0) << tiny;
    EXPECT_EQ(EncodeFp8<Format>(-tiny), 0x80) << tiny;
  }
}

TYPED_TEST(Fp8Test, CodesAreHalvesAfterAShift) {
  for (int code = 0; code < 256; ++code) {
    if (TypeParam::IsNaN(code & 0x7f)) continue;
    const float value = TypeParam::Decode(static_cast<uint8_t>(code));
    const auto bits = static_cast<uint32_t>(code);
    if (TypeParam::kType == DType::kFp8E5M2) {
      EXPECT_EQ(F16ToF32(HalfOfE5M2(bits)), value);
    } else {
      EXPECT_EQ(F16ToF32(HalfOfE4M3(bits)) * kE4M3OfHalf, value);
    }
  }
}

template <typename Oracle>
std::vector<std::byte> Quantized(const std::vector<float>& row) {
  std::vector<std::byte> bytes(RowBytes(Oracle::kType, row.size()));
  QuantizeRow(Oracle::kType, row, bytes.data());
  return bytes;
}

// Half a place of the mantissa, or of the smallest values of the block.
TYPED_TEST(Fp8Test, BlocksAreOffByHalfAPlace) {
  for (const float size : {1e-7f, 1e-3f, 0.02f, 1.0f, 3e4f}) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, size);
    std::vector<float> row(320), decoded(row.size());
    for (float& value : row) value = normal(random);
    const auto bytes = Quantized<TypeParam>(row);
    EXPECT_TRUE(IsFiniteRow(TypeParam::kType, bytes.data(), 320));
    DequantizeRow(TypeParam::kType, bytes.data(), 320, decoded.data());
    for (size_t i = 0; i < row.size(); ++i) {
      const float scale = F16ToF32(LoadU16(bytes.data() + i / 32 * 34));
      int exponent = 0;
      EXPECT_EQ(std::frexp(scale, &exponent), 0.5f) << "no power of two: " << scale;
      const double bound =
          std::max(std::ldexp(std::abs(double{row[i]}), -1 - TypeParam::kMantissaBits),
                   double{TypeParam::kSmallest} * scale / 2);
      EXPECT_LE(std::abs(double{decoded[i]} - row[i]), bound) << row[i] << " of " << size;
    }
  }
}

TYPED_TEST(Fp8Test, ScalesAreTheLeastThatDoNotSaturate) {
  for (const float most : {TypeParam::kLargest, 0.75f * TypeParam::kLargest, 1.0f, 0.011f}) {
    std::vector<float> row(32, most / 3);
    row[7] = -most;
    const auto bytes = Quantized<TypeParam>(row);
    const double scale = F16ToF32(LoadU16(bytes.data()));
    EXPECT_LE(most, scale * TypeParam::kLargest);
    EXPECT_TRUE(most > scale / 2 * TypeParam::kLargest || scale == 0x1p-24) << most;
  }
  // At every power that F16 has, and next to it.
  for (int power = -24; power <= 15; ++power) {
    const float limit = std::ldexp(float{TypeParam::kLargest}, power);
    const auto scale_of = [](float most) {
      std::vector<float> row(32, 0.0f);
      row[31] = most;
      return F16ToF32(LoadU16(Quantized<TypeParam>(row).data()));
    };
    EXPECT_EQ(scale_of(limit), std::ldexp(1.0f, power)) << power;
    EXPECT_EQ(scale_of(std::nextafter(limit, 0.0f)), std::ldexp(1.0f, power)) << power;
    EXPECT_EQ(scale_of(std::nextafter(limit, kInf)),
              power == 15 ? kInf : std::ldexp(1.0f, power + 1));
  }
  const auto zeros = Quantized<TypeParam>(std::vector<float>(32, 0.0f));
  std::vector<float> decoded(32, 1.0f);
  DequantizeRow(TypeParam::kType, zeros.data(), 32, decoded.data());
  EXPECT_EQ(decoded, std::vector<float>(32, 0.0f));
}

TYPED_TEST(Fp8Test, WeightsThatNoScaleReachesAreFound) {
  std::vector<float> row(64, 0.5f);
  row[40] = TypeParam::kLargest * 32768;
  EXPECT_TRUE(IsFiniteRow(TypeParam::kType, Quantized<TypeParam>(row).data(), 64));
  row[40] = -1.001f * TypeParam::kLargest * 32768;
  EXPECT_FALSE(IsFiniteRow(TypeParam::kType, Quantized<TypeParam>(row).data(), 64));
}

TYPED_TEST(Fp8Test, PackedRowsDecodeToTheBitsOfOthers) {
  for (const int64_t n : {32, 96, 512, 544, 1280}) {
    const Tensor rows = RandomWeights(TypeParam::kType, 2, n, 3);
    const Tensor packed = rows.Packed();
    EXPECT_EQ(packed.view().layout, RowLayout::kLanes);
    EXPECT_EQ(packed.Floats(1), rows.Floats(1)) << n;
  }
}

// Whatever units a row has.
TYPED_TEST(Fp8Test, FloatsArePackedAsTheirBlocksAre) {
  for (const int64_t n : {32, 512, 544, 1280}) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> row(static_cast<size_t>(n));
    for (float& value : row) value = normal(random);
    const auto blocks = Quantized<TypeParam>(row);
    std::vector<std::byte> wanted(blocks.size()), packed(blocks.size());
    PackLanesRow(TypeParam::kType, blocks.data(), n, wanted.data());
    TensorView to = TensorView::Dense(packed.data(), TypeParam::kType, 1, n);
    EXPECT_TRUE(PackRow(TensorView::F32(row.data(), 1, n), 0, to));
    EXPECT_EQ(packed, blocks) << n;
    to.layout = RowLayout::kLanes;
    EXPECT_TRUE(PackRow(TensorView::F32(row.data(), 1, n), 0, to));
    EXPECT_EQ(packed, wanted) << n;
    row.back() = 1e20f;
    EXPECT_FALSE(PackRow(TensorView::F32(row.data(), 1, n), 0, to)) << "too large";
  }
}

}  // namespace
}  // namespace thermocline::kernels
