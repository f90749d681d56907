#include "base/tensor_view.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace thermocline {
namespace {

TEST(TensorView, DenseRowsFollowOneAnother) {
  std::vector<float> data = {0, 1, 2, 3, 4, 5};
  const TensorView view = TensorView::F32(data.data(), 2, 3);
  EXPECT_EQ(view.f32_row(1)[2], 5.0f);
  EXPECT_EQ(view.bytes(), 24u);
  EXPECT_FALSE(view.empty());
  EXPECT_TRUE(TensorView().empty());
}

TEST(TensorView, PartsShareTheStride) {
  std::vector<float> data = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const TensorView view = TensorView::F32(data.data(), 3, 4);
  const TensorView rows = view.Rows(1, 2);
  EXPECT_EQ(rows.n_rows, 2);
  EXPECT_EQ(rows.f32_row(0)[0], 4.0f);
  const TensorView part = rows.Cols(2, 2);
  EXPECT_EQ(part.n_cols, 2);
  EXPECT_EQ(part.f32_row(1)[0], 10.0f);
  EXPECT_EQ(part.bytes(), 16u);
}

TEST(TensorView, ColumnsOfAQuantisedRowAreWholeBlocks) {
  std::vector<std::byte> data(2 * RowBytes(DType::kQ4_0, 96));
  const TensorView view = TensorView::Dense(data.data(), DType::kQ4_0, 2, 96);
  const TensorView part = view.Cols(32, 64);
  EXPECT_EQ(part.row(0) - view.row(0), 18);
  EXPECT_EQ(part.row(1) - view.row(1), 18);
}

}  // namespace
}  // namespace thermocline
