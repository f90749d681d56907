// How lanes read and decode units of weights, called as plain functions.
#include "kernels/cuda/rows.cuh"

#include <gtest/gtest.h>

#include <set>

#include "conformance_operands.h"

namespace thermocline::kernels::cuda::emulated {
namespace {

constexpr int64_t kCols = 2 * kUnitElems;

// Rows that begin at a multiple of 16, as those of a device do.
class AlignedRow {
 public:
  explicit AlignedRow(const Tensor& w, int shift = 0)
      : bytes_(static_cast<size_t>(w.view().row_stride_bytes) + 64) {
    const auto at = reinterpret_cast<uintptr_t>(bytes_.data());
    data_ = bytes_.data() + (16 - at % 16) % 16 + shift;
    std::memcpy(data_, w.view().row(0), static_cast<size_t>(w.view().row_stride_bytes));
  }
  const std::byte* data() const { return data_; }

 private:
  std::vector<std::byte> bytes_;
  std::byte* data_;
};

template <typename Body>
void OnEachType(Body body) {
  for (const DType dtype : kDeviceWeightTypes) {
    SCOPED_TRACE(std::string(DTypeName(dtype)));
    ForType(dtype, body);
  }
}

TEST(RowUnitTest, LanesShareTheColumnsOfAUnit) {
  OnEachType([]<DType kType>() {
    using Unit = typename UnitOf<kType>::Type;
    std::set<int> columns;
    for (int lane = 0; lane < kWarp; ++lane) {
      for (int quad = 0; quad < kQuads; ++quad) {
        EXPECT_EQ(Unit::QuadColumn(lane, quad) % 4, 0);
        columns.insert(Unit::QuadColumn(lane, quad));
      }
    }
    EXPECT_EQ(columns.size(), static_cast<size_t>(kUnitElems / 4));
    EXPECT_EQ(*columns.rbegin(), kUnitElems - 4);
  });
}

TEST(RowUnitTest, WholeUnitsDecodeToTheBitsOfTheReference) {
  OnEachType([]<DType kType>() {
    using Unit = typename UnitOf<kType>::Type;
    const Tensor w = RandomWeights(kType, 1, kCols, 1).Packed();
    const std::vector<float> expected = w.Floats(0);
    const AlignedRow row(w);
    for (int unit = 0; unit < 2; ++unit) {
      for (int lane = 0; lane < kWarp; ++lane) {
        float values[kLaneElems];
        Unit::Load(row.data() + unit * kUnitBytes<kType>, lane).Decode(lane, values);
        for (int k = 0; k < kLaneElems; ++k) {
          const int column = unit * kUnitElems + Unit::QuadColumn(lane, k / 4) + k % 4;
          ASSERT_EQ(values[k], expected[static_cast<size_t>(column)]) << column;
        }
      }
    }
  });
}

// Shorter units, at any even address; what they lack is 0.
TEST(RowUnitTest, PartsOfUnitsDecodeToTheBitsOfTheReference) {
  OnEachType([]<DType kType>() {
    using Unit = typename UnitOf<kType>::Type;
    constexpr int kBlock = static_cast<int>(Traits(kType).block_elems);
    for (int n = kBlock; n <= kUnitElems; n += kBlock == 1 ? 37 : kBlock) {
      const Tensor w = RandomWeights(kType, 1, n, 2).Packed();
      const std::vector<float> expected = w.Floats(0);
      const AlignedRow row(w, kType == DType::kF32 ? 4 : 2);
      for (int lane = 0; lane < kWarp; ++lane) {
        float values[kLaneElems];
        Unit::LoadPart(row.data(), n, lane).Decode(lane, values);
        for (int k = 0; k < kLaneElems; ++k) {
          const int column = Unit::QuadColumn(lane, k / 4) + k % 4;
          if (column >= n) continue;
          ASSERT_EQ(values[k], expected[static_cast<size_t>(column)]) << column << " of " << n;
        }
      }
    }
  });
}

TEST(RowUnitTest, ProductsWithBytesAreThoseOfTheDecodedWeights) {
  OnEachType([]<DType kType>() {
    if constexpr (MeetsBytes(kType)) {
      using Unit = typename UnitOf<kType>::Type;
      const Tensor w = RandomWeights(kType, 1, kUnitElems, 3).Packed();
      const std::vector<float> weights = w.Floats(0);
      const AlignedRow row(w);
      std::mt19937 random(4);
      alignas(16) std::byte x_unit[kByteUnitBytes];
      for (std::byte& byte : x_unit) byte = static_cast<std::byte>(random() % 255 - 127);
      for (int j = 0; j < kUnitLanes; ++j) {
        const float d = 0.01f * static_cast<float>(j + 1);
        std::memcpy(x_unit + kUnitElems + 4 * j, &d, 4);
      }
      double expected = 0, norm = 0;
      for (int c = 0; c < kUnitElems; ++c) {
        const int block = c / kGroupElems, dword = c % kGroupElems / 4;
        const auto q = static_cast<int8_t>(x_unit[4 * (dword * kUnitLanes + block) + c % 4]);
        const double product = static_cast<double>(weights[static_cast<size_t>(c)]) * q *
                               (0.01f * static_cast<float>(block + 1));
        expected += product;
        norm += std::abs(product);
      }
      double sum = 0;
      for (int lane = 0; lane < kWarp; ++lane) {
        sum += Unit::Load(row.data(), lane).Dot(lane, Unit::LoadBytes(x_unit, lane), 0.0f);
      }
      EXPECT_NEAR(sum, expected, 64 * kRounding * norm);
    }
  });
}

}  // namespace
}  // namespace thermocline::kernels::cuda::emulated
