// What the op tests share: random tensors of every type and comparisons that name the element.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/tensor_view.h"
#include "kernels/blocks.h"
#include "kernels/device.h"
#include "kernels/lanes.h"

namespace thermocline::kernels {

inline constexpr DType kWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                         DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// Half the distance from 1 to the next F32: the relative error of one rounding.
inline constexpr double kRounding = 0x1p-24;

// A tensor that owns its bytes. Rows have some bytes between them, so that strides are exercised.
class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, int64_t n_rows, int64_t n_cols, int64_t gap_bytes = 0)
      : bytes_(static_cast<size_t>(
            n_rows *
            (static_cast<int64_t>(RowBytes(dtype, static_cast<uint64_t>(n_cols))) + gap_bytes))),
        view_(TensorView::Dense(bytes_.data(), dtype, n_rows, n_cols)) {
    view_.row_stride_bytes += gap_bytes;
  }
  Tensor(const Tensor& other) : Tensor() { *this = other; }
  Tensor& operator=(const Tensor& other) {
    bytes_ = other.bytes_;
    view_ = other.view_;
    view_.data = bytes_.data();
    return *this;
  }

  // The same rows in the packed layout, when the type has one.
  Tensor Packed() const {
    if (!HasLanes(view_.dtype)) return *this;
    Tensor packed(view_.dtype, view_.n_rows, view_.n_cols);
    packed.bytes_.resize(packed.bytes_.size() + kLanesSlackBytes, std::byte{0xff});
    packed.view_.data = packed.bytes_.data();
    packed.view_.layout = RowLayout::kLanes;
    for (int64_t i = 0; i < view_.n_rows; ++i) {
      PackLanesRow(view_.dtype, view_.row(i), view_.n_cols, packed.view_.row(i));
    }
    return packed;
  }
  TensorView view() const { return view_; }
  float at(int64_t row, int64_t col) const { return view_.f32_row(row)[col]; }
  float& at(int64_t row, int64_t col) { return view_.f32_row(row)[col]; }
  // Row `row` as floats, whatever the type.
  std::vector<float> Floats(int64_t row) const {
    std::vector<float> values(static_cast<size_t>(view_.n_cols));
    DequantizeRow(view_, row, values.data());
    return values;
  }
  // A copy of rows [begin, begin + n).
  Tensor Rows(int64_t begin, int64_t n) const {
    Tensor rows(view_.dtype, n, view_.n_cols);
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(rows.view().row(i), view_.row(begin + i),
                  static_cast<size_t>(rows.view_.row_stride_bytes));
    }
    return rows;
  }

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

inline Tensor RandomActivations(int64_t n_rows, int64_t n_cols, uint32_t seed,
                                int64_t gap_bytes = 12) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Tensor tensor(DType::kF32, n_rows, n_cols, gap_bytes);
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t c = 0; c < n_cols; ++c) tensor.at(r, c) = normal(random);
  }
  return tensor;
}

// Byte offsets of the halves of a block that scale it.
inline std::vector<int> ScaleOffsets(DType dtype) {
  switch (dtype) {
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

inline void FillQuantisedRow(DType dtype, std::byte* row, int64_t n_cols, std::mt19937& random) {
  std::uniform_real_distribution<float> scale(-0.02f, 0.02f);
  const DTypeTraits traits = Traits(dtype);
  for (int64_t b = 0; b < n_cols / traits.block_elems; ++b, row += traits.block_bytes) {
    for (uint32_t i = 0; i < traits.block_bytes; ++i) row[i] = static_cast<std::byte>(random());
    if (IsFp8(dtype)) {  // 0x7b and less are finite
      for (uint32_t i = 0; i < traits.block_bytes; ++i) row[i] &= std::byte{0xfb};
    }
    for (const int offset : ScaleOffsets(dtype)) {
      const uint16_t bits = F32ToF16(scale(random));
      std::memcpy(row + offset, &bits, sizeof(bits));
    }
  }
}

inline Tensor RandomWeights(DType dtype, int64_t n_rows, int64_t n_cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  Tensor tensor(dtype, n_rows, n_cols);
  for (int64_t r = 0; r < n_rows; ++r) {
    std::byte* row = tensor.view().row(r);
    if (!IsFloat(dtype)) {
      FillQuantisedRow(dtype, row, n_cols, random);
      continue;
    }
    for (int64_t c = 0; c < n_cols; ++c) {
      const float value = normal(random);
      const uint16_t half = dtype == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
      if (dtype == DType::kF32) std::memcpy(row + c * 4, &value, 4);
      if (dtype != DType::kF32) std::memcpy(row + c * 2, &half, 2);
    }
  }
  return tensor;
}

inline std::unique_ptr<Device> Cpu(int n_threads = 1) {
  auto device = MakeCpuDevice({.n_threads = n_threads});
  EXPECT_TRUE(device.ok()) << device.status();
  return std::move(device).value();
}

// Same bits everywhere: -0 is not 0 here.
inline void ExpectSameBits(const Tensor& a, const Tensor& b, const std::string& what) {
  ASSERT_EQ(a.view().n_rows, b.view().n_rows) << what;
  ASSERT_EQ(a.view().n_cols, b.view().n_cols) << what;
  for (int64_t r = 0; r < a.view().n_rows; ++r) {
    for (int64_t c = 0; c < a.view().n_cols; ++c) {
      ASSERT_EQ(std::bit_cast<uint32_t>(a.at(r, c)), std::bit_cast<uint32_t>(b.at(r, c)))
          << what << " row=" << r << " col=" << c << " " << a.at(r, c) << " " << b.at(r, c);
    }
  }
}

// |a - b| <= bound(row, col) everywhere.
inline void ExpectNear(const Tensor& a, const Tensor& b,
                       const std::function<double(int64_t, int64_t)>& bound,
                       const std::string& what) {
  for (int64_t r = 0; r < b.view().n_rows; ++r) {
    for (int64_t c = 0; c < b.view().n_cols; ++c) {
      const double difference = std::abs(static_cast<double>(a.at(r, c)) - b.at(r, c));
      ASSERT_LE(difference, bound(r, c))
          << what << " row=" << r << " col=" << c << " " << a.at(r, c) << " " << b.at(r, c);
    }
  }
}

}  // namespace thermocline::kernels
