// The master problem of column generation: which of the splits known for each layer to take, with
// layers coupled by shared resources alone.
//
//   min  sum_j cost_j x_j + z_cost z
//   s.t. sum over the columns j of layer l of x_j            = 1        for every layer l
//        sum_j usage_rj x_j - z [r is shared by z]           <= limit_r for every resource r
//        x, z >= 0
//
// Primal simplex on a dense inverse of the basis (layers + resources rows, some hundred), warm from
// one solve to the next. A limit may be exceeded at kElastic per unit, so that a start exists.
// Numbers are to be scaled by the caller so that limits and usages are about 1 and the objective
// about 100. Errors of rounding only cost iterations: bounds are computed from prices elsewhere.
// Numbers far from that may make a basis singular to within rounding; then Solve says so.
#pragma once

#include <cstddef>
#include <vector>

namespace thermocline::placement {

// Owned by one solve. Thread-compatible.
class MasterLp {
 public:
  struct Resource {
    double limit = 0;
    bool minus_z = false;
  };
  // Ten times an objective of 100 for exceeding a limit by its whole.
  static constexpr double kElastic = 1000;

  MasterLp(int n_layers, std::vector<Resource> resources, double z_cost);

  // The first column of every layer must be there before the first Solve.
  int AddColumn(int layer, double cost, std::vector<double> usage);
  // False when rounding has spoilt the basis. Objective, weights and prices are then those of the
  // last basis that could be inverted: of some choice, not of the best.
  [[nodiscard]] bool Solve();

  double objective() const;
  int n_columns() const { return static_cast<int>(columns_.size()); }
  int layer(int column) const { return columns_[column].layer; }
  double weight(int column) const;  // x_j
  // What a unit of the resource is worth, >= 0.
  double price(int resource) const;
  // cost_j + prices of what it uses - what its layer pays now; negative: worth adding.
  double ReducedCost(int layer, double cost, const std::vector<double>& usage) const;

 private:
  // A choice of basic variables and what follows from it.
  struct Basis {
    std::vector<int> variables;   // by row
    std::vector<double> inverse;  // rows x rows
    std::vector<double> values;   // by row
  };
  struct Column {
    int layer = -1;  // -1: slack, excess or z
    double cost = 0;
    std::vector<double> usage;  // of a column of a layer or z
    int resource = -1;          // of a slack or an excess
    double sign = 0;            // slack 1, excess -1
  };

  int n_rows() const { return n_layers_ + static_cast<int>(resources_.size()); }
  const double* InverseRow(size_t row) const {
    return &basis_.inverse[row * static_cast<size_t>(n_rows())];
  }
  const Column& At(int variable) const;
  double Dot(const double* row, const Column& column) const;
  bool Start();
  std::vector<double> BasisMatrix() const;
  bool Refactor();
  void ComputePrices();
  int Entering(bool by_index) const;
  void Direction(const Column& column, std::vector<double>& direction) const;
  int Leaving(const std::vector<double>& direction) const;
  void Pivot(int row, int entering, const std::vector<double>& direction);
  bool Iterate();

  int n_layers_;
  std::vector<Resource> resources_;
  std::vector<Column> columns_;  // of layers
  std::vector<Column> others_;   // slacks, excesses, z; variable -1 - i
  Basis basis_;                  // no variables before the first solve
  Basis sound_;                  // the last one whose inverse was made from its columns
  std::vector<double> prices_;   // by row
  std::vector<double> rhs_;
};

}  // namespace thermocline::placement
