#include "placement/solver/master_lp.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace thermocline::placement {
namespace {

constexpr double kOptimal = 1e-9;  // reduced costs of an objective of about 100
constexpr double kPivot = 1e-9;    // smaller elements of a direction are rounding
constexpr int kRefactorEvery = 200;
// Pivots without progress before the first index is taken instead of the steepest (Bland's rule),
// and pivots of one solve, far beyond what any instance has needed.
constexpr int kStalled = 200;
constexpr int kMaxPivots = 20000;

}  // namespace

MasterLp::MasterLp(int n_layers, std::vector<Resource> resources, double z_cost)
    : n_layers_(n_layers), resources_(std::move(resources)) {
  rhs_.assign(n_layers_, 1.0);
  Column z{.cost = z_cost};
  for (const Resource& resource : resources_) {
    const int r = static_cast<int>(others_.size()) / 2;
    rhs_.push_back(resource.limit);
    z.usage.push_back(resource.minus_z ? -1 : 0);
    others_.push_back({.resource = r, .sign = 1});
    others_.push_back({.cost = kElastic, .resource = r, .sign = -1});
  }
  others_.push_back(std::move(z));
}

int MasterLp::AddColumn(int layer, double cost, std::vector<double> usage) {
  CHECK(usage.size() == resources_.size());
  columns_.push_back({.layer = layer, .cost = cost, .usage = std::move(usage)});
  return n_columns() - 1;
}

const MasterLp::Column& MasterLp::At(int variable) const {
  return variable >= 0 ? columns_[variable] : others_[-1 - variable];
}

// `row` of the inverse, or of prices, times the column.
double MasterLp::Dot(const double* row, const Column& column) const {
  if (column.resource >= 0) return column.sign * row[n_layers_ + column.resource];
  double sum = column.layer >= 0 ? row[column.layer] : 0;
  for (size_t r = 0; r < resources_.size(); ++r) sum += column.usage[r] * row[n_layers_ + r];
  return sum;
}

// Every layer on its first column; what that exceeds is paid for.
void MasterLp::Start() {
  basis_.assign(n_rows(), -1);
  std::vector<double> left(rhs_.begin() + n_layers_, rhs_.end());
  std::vector<bool> seen(n_layers_, false);
  for (int j = 0; j < n_columns(); ++j) {
    const Column& column = columns_[j];
    if (seen[column.layer]) continue;
    seen[column.layer] = true;
    basis_[column.layer] = j;
    for (size_t r = 0; r < left.size(); ++r) left[r] -= column.usage[r];
  }
  CHECK(std::all_of(seen.begin(), seen.end(), [](bool s) { return s; }));
  for (size_t r = 0; r < left.size(); ++r) {
    basis_[n_layers_ + r] = -1 - static_cast<int>(2 * r + (left[r] < 0 ? 1 : 0));
  }
  Refactor();
}

// Inverts the basis by Gauss and Jordan with row exchanges.
void MasterLp::Refactor() {
  const int n = n_rows();
  std::vector<double> matrix(static_cast<size_t>(n) * n, 0.0);
  std::vector<double> unit(n, 0.0);
  for (int i = 0; i < n; ++i) {
    unit[i] = 1;
    for (int j = 0; j < n; ++j) matrix[i * n + j] = Dot(unit.data(), At(basis_[j]));
    unit[i] = 0;
  }
  inverse_.assign(static_cast<size_t>(n) * n, 0.0);
  for (int i = 0; i < n; ++i) Inverse(i, i) = 1;
  for (int c = 0; c < n; ++c) {
    int best = c;
    for (int i = c + 1; i < n; ++i) {
      if (std::abs(matrix[i * n + c]) > std::abs(matrix[best * n + c])) best = i;
    }
    CHECK(matrix[best * n + c] != 0);
    if (best != c) {
      std::swap_ranges(&matrix[best * n], &matrix[best * n] + n, &matrix[c * n]);
      std::swap_ranges(&inverse_[best * n], &inverse_[best * n] + n, &inverse_[c * n]);
    }
    const double scale = 1 / matrix[c * n + c];
    for (int j = 0; j < n; ++j) matrix[c * n + j] *= scale, inverse_[c * n + j] *= scale;
    for (int i = 0; i < n; ++i) {
      const double factor = matrix[i * n + c];
      if (i == c || factor == 0) continue;
      for (int j = 0; j < n; ++j) {
        matrix[i * n + j] -= factor * matrix[c * n + j];
        inverse_[i * n + j] -= factor * inverse_[c * n + j];
      }
    }
  }
  values_.assign(n, 0.0);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) values_[i] += Inverse(i, j) * rhs_[j];
    values_[i] = std::max(values_[i], 0.0);
  }
}

void MasterLp::ComputePrices() {
  const int n = n_rows();
  prices_.assign(n, 0.0);
  for (int i = 0; i < n; ++i) {
    const double cost = At(basis_[i]).cost;
    if (cost == 0) continue;
    for (int j = 0; j < n; ++j) prices_[j] += cost * Inverse(i, j);
  }
}

// The variable of the least reduced cost, or the first with a negative one; n_columns() when
// there is none.
int MasterLp::Entering(bool by_index) const {
  int best = n_columns();
  double least = -kOptimal;
  for (int v = -static_cast<int>(others_.size()); v < n_columns(); ++v) {
    const Column& column = At(v);
    const double reduced = column.cost - Dot(prices_.data(), column);
    if (reduced >= least) continue;
    best = v;
    if (by_index) return best;
    least = reduced;
  }
  return best;
}

void MasterLp::Direction(const Column& column, std::vector<double>& direction) const {
  const int n = n_rows();
  direction.resize(n);
  for (int i = 0; i < n; ++i) direction[i] = Dot(&inverse_[static_cast<size_t>(i) * n], column);
}

int MasterLp::Leaving(const std::vector<double>& direction) const {
  int leaving = -1;
  double least = 0;
  for (int i = 0; i < n_rows(); ++i) {
    if (direction[i] <= kPivot) continue;
    const double ratio = values_[i] / direction[i];
    const bool tie = leaving >= 0 && ratio == least;
    if (leaving < 0 || ratio < least || (tie && basis_[i] < basis_[leaving])) {
      leaving = i;
      least = ratio;
    }
  }
  return leaving;
}

void MasterLp::Pivot(int row, int entering, const std::vector<double>& direction) {
  const int n = n_rows();
  const double scale = 1 / direction[row];
  double* const pivot = &inverse_[static_cast<size_t>(row) * n];
  const double step = values_[row] * scale;
  for (int j = 0; j < n; ++j) pivot[j] *= scale;
  for (int i = 0; i < n; ++i) {
    if (i == row || direction[i] == 0) continue;
    double* const other = &inverse_[static_cast<size_t>(i) * n];
    for (int j = 0; j < n; ++j) other[j] -= direction[i] * pivot[j];
    values_[i] = std::max(values_[i] - direction[i] * step, 0.0);
  }
  values_[row] = step;
  basis_[row] = entering;
}

void MasterLp::Solve() {
  if (basis_.empty()) Start();
  std::vector<double> direction;
  int stalled = 0;
  for (int pivots = 1; pivots <= kMaxPivots; ++pivots) {
    ComputePrices();
    const int entering = Entering(stalled > kStalled);
    if (entering == n_columns()) break;
    Direction(At(entering), direction);
    const int row = Leaving(direction);
    if (row < 0) break;  // cannot be: costs are not negative; then rounding has spoilt the inverse
    stalled = values_[row] > 0 ? 0 : stalled + 1;
    Pivot(row, entering, direction);
    if (pivots % kRefactorEvery == 0) Refactor();
  }
  ComputePrices();
}

double MasterLp::objective() const {
  double sum = 0;
  for (int i = 0; i < n_rows(); ++i) sum += At(basis_[i]).cost * values_[i];
  return sum;
}

double MasterLp::weight(int column) const {
  for (int i = 0; i < n_rows(); ++i) {
    if (basis_[i] == column) return values_[i];
  }
  return 0;
}

double MasterLp::price(int resource) const { return std::max(0.0, -prices_[n_layers_ + resource]); }

double MasterLp::ReducedCost(int layer, double cost, const std::vector<double>& usage) const {
  double reduced = cost - prices_[layer];
  for (size_t r = 0; r < usage.size(); ++r) reduced -= prices_[n_layers_ + r] * usage[r];
  return reduced;
}

}  // namespace thermocline::placement
