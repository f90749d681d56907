#include "tools/synth/random_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace thermocline::tools {
namespace {

RandomMatrix Matrix(int64_t n_rows, int64_t n_cols) {
  RandomMatrix matrix;
  matrix.seed = 7;
  matrix.stream = 3;
  matrix.n_rows = n_rows;
  matrix.n_cols = n_cols;
  matrix.deviation = 0.5f;
  return matrix;
}

TEST(RandomMatrix, HasTheMomentsOfABell) {
  const RandomMatrix matrix = Matrix(64, 4096);
  std::vector<float> row(4096);
  double sum = 0, squares = 0, fourth = 0;
  for (int64_t i = 0; i < matrix.n_rows; ++i) {
    matrix.Row(i, row.data());
    for (const float v : row) {
      sum += v;
      squares += double{v} * v;
      fourth += std::pow(double{v}, 4);
    }
  }
  const double n = 64 * 4096;
  EXPECT_NEAR(sum / n, 0, 4 * 0.5 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), 0.5, 0.003);
  // A sum of four uniforms has kurtosis 3 - 6 / (5 * 4).
  EXPECT_NEAR(fourth / n / std::pow(squares / n, 2), 2.7, 0.05);
}

TEST(RandomMatrix, RowsAndStreamsDiffer) {
  RandomMatrix matrix = Matrix(3, 64);
  std::vector<float> a(64), b(64), c(64);
  matrix.Row(0, a.data());
  matrix.Row(1, b.data());
  matrix.stream = 4;
  matrix.Row(0, c.data());
  EXPECT_NE(a, b);
  EXPECT_NE(a, c);
}

TEST(RandomMatrix, PartsHaveTheirValues) {
  RandomMatrix matrix = Matrix(4, 64);
  matrix.first_rows = 2;
  matrix.first_cols = 32;
  matrix.first_value = 2;
  std::vector<float> row(64);
  matrix.Row(1, row.data());
  EXPECT_EQ(row, std::vector<float>(64, 0.0f));
  matrix.Row(2, row.data());
  EXPECT_EQ(row[31], 2);
  EXPECT_NE(row[32], 2);
}

TEST(RandomMatrix, AnyNumberOfThreadsMakesTheSameBytes) {
  const RandomMatrix matrix = Matrix(1500, 256);
  const auto one = ThreadPool::Create({1, "one", {}});
  const auto three = ThreadPool::Create({3, "three", {}});
  for (const DType dtype : {DType::kF16, DType::kQ4_K}) {
    EXPECT_EQ(Encode(matrix, dtype, **one).bytes, Encode(matrix, dtype, **three).bytes);
  }
}

}  // namespace
}  // namespace thermocline::tools
