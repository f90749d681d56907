#include "placement/solver/master_lp.h"

#include <algorithm>
#include <cmath>
#include <optional>
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

// By Gauss and Jordan with row exchanges; nullopt when a column is left without a pivot.
std::optional<std::vector<double>> Inverted(std::vector<double> matrix, size_t n) {
  std::vector<double> inverse(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
  for (size_t c = 0; c < n; ++c) {
    size_t best = c;
    for (size_t i = c + 1; i < n; ++i) {
      if (std::abs(matrix[i * n + c]) > std::abs(matrix[best * n + c])) best = i;
    }
    const double pivot = matrix[best * n + c];
    if (pivot == 0 || !std::isfinite(pivot)) return std::nullopt;
    if (best != c) {
      std::swap_ranges(&matrix[best * n], &matrix[best * n] + n, &matrix[c * n]);
      std::swap_ranges(&inverse[best * n], &inverse[best * n] + n, &inverse[c * n]);
    }
    const double scale = 1 / pivot;
    for (size_t j = 0; j < n; ++j) matrix[c * n + j] *= scale, inverse[c * n + j] *= scale;
    for (size_t i = 0; i < n; ++i) {
      const double factor = matrix[i * n + c];
      if (i == c || factor == 0) continue;
      for (size_t j = 0; j < n; ++j) {
        matrix[i * n + j] -= factor * matrix[c * n + j];
        inverse[i * n + j] -= factor * inverse[c * n + j];
      }
    }
  }
  return inverse;
}

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
bool MasterLp::Start() {
  std::vector<int>& variables = basis_.variables;
  variables.assign(n_rows(), -1);
  std::vector<double> left(rhs_.begin() + n_layers_, rhs_.end());
  std::vector<bool> seen(n_layers_, false);
  for (int j = 0; j < n_columns(); ++j) {
    const Column& column = columns_[j];
    if (seen[column.layer]) continue;
    seen[column.layer] = true;
    variables[column.layer] = j;
    for (size_t r = 0; r < left.size(); ++r) left[r] -= column.usage[r];
  }
  CHECK(std::all_of(seen.begin(), seen.end(), [](bool s) { return s; }));
  for (size_t r = 0; r < left.size(); ++r) {
    variables[n_layers_ + r] = -1 - static_cast<int>(2 * r + (left[r] < 0 ? 1 : 0));
  }
  return Refactor();
}

std::vector<double> MasterLp::BasisMatrix() const {
  const auto n = static_cast<size_t>(n_rows());
  std::vector<double> matrix(n * n, 0.0);
  std::vector<double> unit(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    unit[i] = 1;
    for (size_t j = 0; j < n; ++j) matrix[i * n + j] = Dot(unit.data(), At(basis_.variables[j]));
    unit[i] = 0;
  }
  return matrix;
}

// Inverts the basis anew. False when it is singular or its numbers are not finite.
bool MasterLp::Refactor() {
  const auto n = static_cast<size_t>(n_rows());
  std::optional<std::vector<double>> inverse = Inverted(BasisMatrix(), n);
  if (!inverse) return false;
  basis_.inverse = std::move(*inverse);
  basis_.values.assign(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) basis_.values[i] += InverseRow(i)[j] * rhs_[j];
    if (!std::isfinite(basis_.values[i])) return false;
    basis_.values[i] = std::max(basis_.values[i], 0.0);
  }
  sound_ = basis_;
  return true;
}

void MasterLp::ComputePrices() {
  prices_.assign(rhs_.size(), 0.0);
  for (size_t i = 0; i < basis_.variables.size(); ++i) {
    const double cost = At(basis_.variables[i]).cost;
    if (cost == 0) continue;
    for (size_t j = 0; j < prices_.size(); ++j) prices_[j] += cost * InverseRow(i)[j];
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
    if (!(reduced < least)) continue;
    best = v;
    if (by_index) return best;
    least = reduced;
  }
  return best;
}

void MasterLp::Direction(const Column& column, std::vector<double>& direction) const {
  direction.resize(rhs_.size());
  for (size_t i = 0; i < direction.size(); ++i) direction[i] = Dot(InverseRow(i), column);
}

int MasterLp::Leaving(const std::vector<double>& direction) const {
  int leaving = -1;
  double least = 0;
  for (int i = 0; i < n_rows(); ++i) {
    if (!(direction[i] > kPivot)) continue;
    const double ratio = basis_.values[i] / direction[i];
    const bool tie = leaving >= 0 && ratio == least;
    if (leaving < 0 || ratio < least || (tie && basis_.variables[i] < basis_.variables[leaving])) {
      leaving = i;
      least = ratio;
    }
  }
  return leaving;
}

void MasterLp::Pivot(int row, int entering, const std::vector<double>& direction) {
  const int n = n_rows();
  const double scale = 1 / direction[row];
  double* const pivot = &basis_.inverse[static_cast<size_t>(row) * n];
  const double step = basis_.values[row] * scale;
  for (int j = 0; j < n; ++j) pivot[j] *= scale;
  for (int i = 0; i < n; ++i) {
    if (i == row || direction[i] == 0) continue;
    double* const other = &basis_.inverse[static_cast<size_t>(i) * n];
    for (int j = 0; j < n; ++j) other[j] -= direction[i] * pivot[j];
    basis_.values[i] = std::max(basis_.values[i] - direction[i] * step, 0.0);
  }
  basis_.values[row] = step;
  basis_.variables[row] = entering;
}

// Pivots until nothing enters; false when the basis cannot be inverted on the way or at the end.
bool MasterLp::Iterate() {
  std::vector<double> direction;
  int stalled = 0;
  for (int pivots = 1; pivots <= kMaxPivots; ++pivots) {
    ComputePrices();
    const int entering = Entering(stalled > kStalled);
    if (entering == n_columns()) return true;
    Direction(At(entering), direction);
    const int row = Leaving(direction);
    // Costs are not negative, so something limits every variable, unless rounding has spoilt it.
    if (row < 0) return Refactor();
    stalled = basis_.values[row] > 0 ? 0 : stalled + 1;
    Pivot(row, entering, direction);
    if (pivots % kRefactorEvery == 0 && !Refactor()) return false;
  }
  return true;
}

bool MasterLp::Solve() {
  const bool solved = (!basis_.variables.empty() || Start()) && Iterate();
  if (!solved) basis_ = sound_;
  ComputePrices();
  return solved;
}

double MasterLp::objective() const {
  double sum = 0;
  for (size_t i = 0; i < basis_.variables.size(); ++i) {
    sum += At(basis_.variables[i]).cost * basis_.values[i];
  }
  return sum;
}

double MasterLp::weight(int column) const {
  for (size_t i = 0; i < basis_.variables.size(); ++i) {
    if (basis_.variables[i] == column) return basis_.values[i];
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
