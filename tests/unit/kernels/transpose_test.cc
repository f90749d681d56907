#include <gtest/gtest.h>

#include "base/half.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

float Rounded(float value, DType dtype) {
  if (dtype == DType::kF16) return F16ToF32(F32ToF16(value));
  if (dtype == DType::kBF16) return BF16ToF32(F32ToBF16(value));
  return value;
}

TEST(TransposeTest, EveryElementRoundedOnce) {
  for (const DType from : kWeightTypes) {
    for (const DType to : {DType::kF32, DType::kF16, DType::kBF16}) {
      const int64_t n_out = 37, n_in = 512;
      const Tensor w = RandomWeights(from, n_out, n_in, 1);
      Tensor y(to, n_in, n_out, 6);
      if (to == DType::kF32) y = Tensor(to, n_in, n_out, 8);
      TransposeToRows(w.view(), y.view());
      for (int64_t r = 0; r < n_out; ++r) {
        const auto row = w.Floats(r);
        for (int64_t c = 0; c < n_in; ++c) {
          ASSERT_EQ(y.Floats(c)[static_cast<size_t>(r)], Rounded(row[static_cast<size_t>(c)], to))
              << DTypeName(from) << " -> " << DTypeName(to) << " " << r << " " << c;
        }
      }
    }
  }
}

TEST(TransposeTest, TwiceIsTheSame) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Tensor w = RandomWeights(dtype, 33, 291, 2);
    Tensor once(dtype, 291, 33), twice(dtype, 33, 291);
    TransposeToRows(w.view(), once.view());
    TransposeToRows(once.view(), twice.view());
    for (int64_t r = 0; r < 33; ++r) EXPECT_EQ(w.Floats(r), twice.Floats(r));
  }
}

}  // namespace
}  // namespace thermocline::kernels
