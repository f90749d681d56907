// Matrices in host memory and their products by a device's kernels: the algebra of training.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/tensor_view.h"
#include "kernels/device.h"

namespace thermocline::tools {

// Owns m[rows, cols], row after row. Thread-compatible.
struct Matrix {
  Matrix() = default;
  Matrix(int64_t n_rows, int64_t n_cols)
      : rows(n_rows), cols(n_cols), data(static_cast<size_t>(n_rows * n_cols), 0.0f) {}

  std::span<float> row(int64_t i) { return std::span(data).subspan(Index(i), Index(1)); }
  std::span<const float> row(int64_t i) const {
    return std::span(data).subspan(Index(i), Index(1));
  }
  // Views are never written through when their matrix is const: ops only read their inputs.
  TensorView view() const { return TensorView::F32(const_cast<float*>(data.data()), rows, cols); }

  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> data;

 private:
  size_t Index(int64_t i) const { return static_cast<size_t>(i * cols); }
};

// x w^T: [x.rows, w.rows].
Matrix Product(kernels::Device& device, TensorView w, TensorView x);
Matrix Transposed(TensorView x);

}  // namespace thermocline::tools
