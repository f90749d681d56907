#include "kernels/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/rng.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                               DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// Sums of four uniforms, of mean 0 and deviation 1.
std::vector<float> BellShaped(size_t n, uint64_t seed) {
  std::vector<float> row(n);
  for (size_t i = 0; i < n; ++i) {
    double sum = -2;
    for (uint64_t j = 0; j < 4; ++j) sum += UniformAt(seed, i * 4 + j);
    row[i] = static_cast<float>(sum * std::sqrt(3.0));
  }
  return row;
}

std::vector<std::byte> Encode(DType dtype, const std::vector<float>& row) {
  std::vector<std::byte> bytes(RowBytes(dtype, row.size()));
  QuantizeRow(dtype, row, bytes.data());
  return bytes;
}

std::vector<float> RoundTrip(DType dtype, const std::vector<float>& row) {
  const auto bytes = Encode(dtype, row);
  std::vector<float> out(row.size());
  DequantizeRow(dtype, bytes.data(), static_cast<int64_t>(row.size()), out.data());
  return out;
}

double RelativeRms(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
    norm += double{x[i]} * x[i];
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

// What rounding to steps of the type leaves of a bell-shaped row: step / sqrt(12) with a step of
// about 5 deviations / levels, and the fixed relative steps of the floats.
double ErrorBound(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 0x1p-11;
    case DType::kBF16:
      return 0x1p-8;
    case DType::kQ8_0:
      return 0.006;
    case DType::kQ4_0:
      return 0.092;
    case DType::kQ4_K:
      return 0.078;
    case DType::kQ5_K:
      return 0.040;
    case DType::kQ6_K:
      return 0.020;
    case DType::kFp8E4M3:  // fp8_test.cc
    case DType::kFp8E5M2:
    case DType::kI32:
      break;
  }
  return -1;
}

TEST(Quantize, ErrorsStayWithinTheStepsOfTheType) {
  for (const DType dtype : kAllTypes) {
    for (const float scale : {1e-3f, 1.0f, 300.0f}) {
      std::vector<float> row = BellShaped(2048, 7);
      for (float& v : row) v *= scale;
      EXPECT_LE(RelativeRms(row, RoundTrip(dtype, row)), ErrorBound(dtype))
          << DTypeName(dtype) << " scale " << scale;
    }
  }
}

// No value is further from its own than the widest step of its block.
TEST(Quantize, NoElementIsFarOff) {
  const struct {
    DType dtype;
    float steps_of_max;
  } kCases[] = {{DType::kQ8_0, 0.51f / 127},
                {DType::kQ4_0, 0.25f},
                {DType::kQ4_K, 0.2f},
                {DType::kQ5_K, 0.12f},
                {DType::kQ6_K, 0.05f}};
  for (const auto& [dtype, bound] : kCases) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::vector<float> row = BellShaped(512, seed);
      const std::vector<float> got = RoundTrip(dtype, row);
      float most = 0;
      for (const float v : row) most = std::max(most, std::fabs(v));
      for (size_t i = 0; i < row.size(); ++i) {
        ASSERT_LE(std::fabs(got[i] - row[i]), bound * most)
            << DTypeName(dtype) << " seed " << seed << " element " << i;
      }
    }
  }
}

TEST(Quantize, ASecondRoundTripChangesNothing) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::vector<float> once = RoundTrip(dtype, BellShaped(512, seed));
      EXPECT_EQ(Encode(dtype, once), Encode(dtype, RoundTrip(dtype, once)))
          << DTypeName(dtype) << " seed " << seed;
      EXPECT_EQ(once, RoundTrip(dtype, once)) << DTypeName(dtype) << " seed " << seed;
    }
  }
}

// The scales are solved for again, so bytes may differ, but nothing may drift.
TEST(Quantize, ASecondRoundTripHardlyMovesSearchedTypes) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    const std::vector<float> once = RoundTrip(dtype, BellShaped(2048, 3));
    EXPECT_LE(RelativeRms(once, RoundTrip(dtype, once)), ErrorBound(dtype) / 4) << DTypeName(dtype);
  }
}

TEST(Quantize, ZerosStayZeros) {
  for (const DType dtype : kAllTypes) {
    const std::vector<float> zeros(512, 0.0f);
    EXPECT_EQ(RoundTrip(dtype, zeros), zeros) << DTypeName(dtype);
  }
}

// The planted biases of synthetic models are such groups.
TEST(Quantize, ConstantsKeepTheirValue) {
  for (const DType dtype : kAllTypes) {
    for (const float value : {-3.0f, -0.173f, 0.25f, 11.3f}) {
      const std::vector<float> row(256, value);
      for (const float got : RoundTrip(dtype, row)) {
        ASSERT_NEAR(got, value, std::fabs(value) * 0x1p-8) << DTypeName(dtype) << " " << value;
      }
    }
  }
}

TEST(Quantize, TinyAndOneSidedRowsAreHarmless) {
  for (const DType dtype : kAllTypes) {
    std::vector<float> row(256, 0.0f);
    row[17] = 1e-30f;
    row[200] = std::numeric_limits<float>::denorm_min();
    for (const float got : RoundTrip(dtype, row)) ASSERT_LE(std::fabs(got), 2e-30f);
    for (size_t i = 0; i < row.size(); ++i) row[i] = 5 + static_cast<float>(i % 16);
    EXPECT_LE(RelativeRms(row, RoundTrip(dtype, row)), 0.08) << DTypeName(dtype);
  }
}

TEST(Quantize, ValuesBeyondTheRangeShowAsNotFinite) {
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_K}) {
    std::vector<float> row(256, 1.0f);
    row[3] = 1e30f;
    EXPECT_NE(FirstNonFinite(RoundTrip(dtype, row)), -1) << DTypeName(dtype);
  }
}

TEST(Quantize, NonFiniteValuesAreFound) {
  std::vector<float> row(100, 1.0f);
  EXPECT_EQ(FirstNonFinite(row), -1);
  row[60] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FirstNonFinite(row), 60);
  row[59] = std::nanf("");
  EXPECT_EQ(FirstNonFinite(row), 59);
}

// Rounding to nearest, ties to even, against every half.
TEST(Quantize, EveryHalfIsItsOwnRoundTrip) {
  std::vector<float> row;
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    float value = 0;
    const auto half = static_cast<uint16_t>(bits);
    DequantizeRow(DType::kF16, reinterpret_cast<const std::byte*>(&half), 1, &value);
    row.push_back(value);
  }
  EXPECT_EQ(RoundTrip(DType::kF16, row), row);
  EXPECT_EQ(RoundTrip(DType::kF16, {1.0f + 0x1p-11f})[0], 1.0f);
  EXPECT_EQ(RoundTrip(DType::kF16, {1.0f + 3 * 0x1p-11f})[0], 1.0f + 2 * 0x1p-10f);
}

TEST(EightBits, SymmetricIsQ8_0) {
  const std::vector<float> row = BellShaped(512, 5);
  std::vector<float> got(row.size());
  RoundTripSymmetric8(row, 32, got.data());
  EXPECT_EQ(got, RoundTrip(DType::kQ8_0, row));
}

// One-sided values waste half of a symmetric range; two-sided ones gain only half a bit at most.
TEST(EightBits, AsymmetricHalvesTheErrorOfOneSidedRows) {
  std::vector<float> row = BellShaped(2048, 5);
  std::vector<float> symmetric(row.size()), asymmetric(row.size());
  for (float& v : row) v = std::fabs(v);
  RoundTripSymmetric8(row, 32, symmetric.data());
  RoundTripAsymmetric8(row, 32, asymmetric.data());
  EXPECT_NEAR(RelativeRms(row, asymmetric) / RelativeRms(row, symmetric), 127.0 / 255, 0.03);
}

TEST(EightBits, ZeroStaysZeroAndShortBlocksWork) {
  const std::vector<float> row = {0, 5, 10, 0, -3, 0, 1};
  std::vector<float> got(row.size());
  RoundTripAsymmetric8(row, 4, got.data());
  EXPECT_EQ(got[0], 0);
  EXPECT_EQ(got[5], 0);
  EXPECT_NEAR(got[2], 10, 10.0 / 255);
  EXPECT_NEAR(got[4], -3, 4.0 / 255);
}

}  // namespace
}  // namespace thermocline::kernels
