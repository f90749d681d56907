#include "tools/profile/lowrank_predictor.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/rng.h"
#include "base/str.h"
#include "kernels/quantize.h"

namespace thermocline::tools {
namespace {

// Extra directions carried along and passes over them: with eight each, the leading ones of a
// slowly falling spectrum are found to a percent (Halko, Martinsson & Tropp 2011, section 4.5).
constexpr int64_t kExtraDirections = 8;
constexpr int kPasses = 8;
// Relative to the mean diagonal: keeps directions that the text never used from dividing by zero.
constexpr double kRidge = 1e-6;

Status CheckFinite(TensorView x, std::string_view what) {
  for (int64_t i = 0; i < x.n_rows; ++i) {
    const int64_t bad = kernels::FirstNonFinite({x.f32_row(i), static_cast<size_t>(x.n_cols)});
    if (bad >= 0) return InvalidArgument(Str(what, " not finite:", Kv("row", i), Kv("col", bad)));
  }
  return OkStatus();
}

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Makes the rows orthonormal, in order (modified Gram-Schmidt, twice for rounding). A row that lies
// in those before becomes 0.
void Orthonormalise(Matrix* rows) {
  for (int64_t i = 0; i < rows->rows; ++i) {
    const std::span<float> row = rows->row(i);
    const double before = std::sqrt(Dot(row, row));
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t j = 0; j < i; ++j) {
        const std::span<const float> other = rows->row(j);
        const auto along = static_cast<float>(Dot(row, other));
        for (size_t k = 0; k < row.size(); ++k) row[k] -= along * other[k];
      }
    }
    const double norm = std::sqrt(Dot(row, row));
    const float scale = norm > 1e-6 * before ? static_cast<float>(1 / norm) : 0.0f;
    for (float& v : row) v *= scale;
  }
}

// Orthonormal rows that span the leading eigenvectors of the symmetric `k`, strongest first.
Matrix LeadingEigenvectors(kernels::Device& device, const Matrix& k, int64_t n, uint64_t seed) {
  Matrix y(std::min(k.rows, n + kExtraDirections), k.cols);
  uint64_t position = 0;
  for (float& v : y.data) v = static_cast<float>(UniformAt(seed, position++) - 0.5);
  for (int pass = 0; pass < kPasses; ++pass) {
    y = Product(device, k.view(), y.view());
    Orthonormalise(&y);
  }
  return y;
}

// rows L^-1 in place, for lower triangular L: row v solves x L = v from the last column back.
void SolveRows(const Matrix& l, Matrix* rows) {
  for (int64_t i = 0; i < rows->rows; ++i) {
    const std::span<float> row = rows->row(i);
    std::vector<double> v(row.begin(), row.end());
    for (int64_t c = l.cols - 1; c >= 0; --c) {
      const std::span<const float> factors = l.row(c);
      v[static_cast<size_t>(c)] /= factors[static_cast<size_t>(c)];
      for (size_t j = 0; j < static_cast<size_t>(c); ++j) {
        v[j] -= v[static_cast<size_t>(c)] * factors[j];
      }
    }
    for (size_t j = 0; j < row.size(); ++j) row[j] = static_cast<float>(v[j]);
  }
}

// E[x x^T] over the range.
Matrix Covariance(kernels::Device& device, const LayerSamples& samples, SampleRange range) {
  const Matrix x_t = Transposed(samples.Rows(range.begin, range.end - range.begin));
  Matrix c = Product(device, x_t.view(), x_t.view());
  const float scale = 1 / static_cast<float>(range.end - range.begin);
  for (float& v : c.data) v *= scale;
  return c;
}

}  // namespace

Matrix CholeskyFactor(const Matrix& c) {
  const int64_t n = c.rows;
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += c.row(i)[static_cast<size_t>(i)];
  const double ridge = std::max(kRidge * trace / static_cast<double>(n), 1e-30);
  std::vector<double> l(static_cast<size_t>(n * n), 0);
  const auto at = [&](int64_t i, int64_t j) -> double& {
    return l[static_cast<size_t>(i * n + j)];
  };
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = c.row(i)[static_cast<size_t>(j)] + (i == j ? ridge : 0);
      for (int64_t k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
      at(i, j) = i == j ? std::sqrt(std::max(sum, ridge)) : sum / at(j, j);
    }
  }
  Matrix factor(n, n);
  for (size_t i = 0; i < l.size(); ++i) factor.data[i] = static_cast<float>(l[i]);
  return factor;
}

Result<LowRankPredictors> LowRankPredictors::Create(kernels::Device& device, TensorView rows,
                                                    const LayerSamples& samples, SampleRange range,
                                                    int64_t max_rank, uint64_t seed) {
  TC_RETURN_IF_ERROR(CheckFinite(rows, "weights are"));
  TC_RETURN_IF_ERROR(
      CheckFinite(samples.Rows(range.begin, range.end - range.begin), "inputs of the FFN are"));
  const Matrix l = CholeskyFactor(Covariance(device, samples, range));
  const Matrix l_t = Transposed(l.view());
  const Matrix wl = Product(device, l_t.view(), rows);  // [n_ff, n_embd]
  const Matrix wl_t = Transposed(wl.view());
  const Matrix k = Product(device, wl_t.view(), wl_t.view());
  Matrix v = LeadingEigenvectors(device, k, max_rank, seed);
  LowRankPredictors made;
  made.fc2_t_ = Product(device, wl.view(), v.view());
  SolveRows(l, &v);
  made.fc1_ = std::move(v);
  return made;
}

Predictor LowRankPredictors::OfRank(int64_t rank) const {
  Predictor cut;
  cut.linear = true;
  cut.fc1 = Matrix(rank, fc1_.cols);
  std::copy_n(fc1_.data.begin(), cut.fc1.data.size(), cut.fc1.data.begin());
  cut.fc2 = Transposed(TensorView::F32(const_cast<float*>(fc2_t_.data.data()), rank, fc2_t_.cols));
  return cut;
}

}  // namespace thermocline::tools
