// Operands that several files of the conformance suite draw, and what their sums may be off by.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "../op_testing.h"

namespace thermocline::kernels {

// Of weights: those of files, and those that a GPU's neurons may have in memory.
inline constexpr DType kDeviceWeightTypes[] = {
    DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,    DType::kQ4_0,
    DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kFp8E4M3, DType::kFp8E5M2};

inline std::string Name(DType dtype, int64_t n_tokens, int64_t n_rows, int64_t n_cols) {
  return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(n_tokens) +
         " rows=" + std::to_string(n_rows) + " cols=" + std::to_string(n_cols);
}

// Rows of whole units, of units and a part, shorter than a unit, and as awkward as the type allows.
inline std::vector<int64_t> RowLengths(DType dtype) {
  std::vector<int64_t> lengths = {512, 1280, 256};
  if (Traits(dtype).block_elems <= 32) lengths.push_back(864), lengths.push_back(96);
  if (IsFloat(dtype)) lengths.push_back(77), lengths.push_back(1023);
  return lengths;
}

// Sum of |row i of w| |x[t]|.
inline double Norm(const Tensor& w, int64_t i, const Tensor& x, int64_t t) {
  const std::vector<float> row = w.Floats(i);
  double norm = 1e-30;
  for (size_t c = 0; c < row.size(); ++c) {
    norm += std::abs(static_cast<double>(row[c]) * x.at(t, static_cast<int64_t>(c)));
  }
  return norm;
}

// A lane adds 16 products of each unit of 512, then 32 lanes meet in 5 steps. Packed rows round
// each scaled block thrice; a minimum is taken off sums of up to 16 times the weights' own.
inline double DotError(const Tensor& w) {
  const double n = static_cast<double>(w.view().n_cols);
  return (n / 32 + 32) * kRounding * (IsFloat(w.view().dtype) ? 1 : 24);
}

struct List {
  std::vector<int32_t> ids;
  int32_t n_active = 0;
  explicit List(int64_t n_ff) : ids(static_cast<size_t>(n_ff), -1) {}
  ActiveIds get() { return {ids.data(), &n_active, static_cast<int32_t>(ids.size())}; }
  std::vector<int32_t> listed() const { return {ids.begin(), ids.begin() + n_active}; }
};

// About 80 % zeros, some of them negative, and values so small that products underflow.
inline Tensor SparseActivations(int64_t n_tokens, int64_t n_ff, uint32_t seed) {
  Tensor a = RandomActivations(n_tokens, n_ff, seed);
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t i = 0; i < n_ff; ++i) {
      const auto kind = (static_cast<uint32_t>(t * 7919 + i) * 2654435761u) >> 28;
      if (kind < 10) a.at(t, i) = 0.0f;
      if (kind >= 10 && kind < 13) a.at(t, i) = -0.0f;
      if (kind == 13) a.at(t, i) *= 0x1p-146f;
    }
  }
  return a;
}

inline constexpr int64_t kNeurons = 61, kEmbd = 512;

struct NeuronCase {
  bool gated = true;
  bool activates_up = false;
  Activation kind = Activation::kRelu;
  enum { kAll, kByActivations, kByScores } needs = kAll;
  bool is_listed = true;
};

inline constexpr NeuronCase kNeuronCases[] = {
    {true, false, Activation::kRelu, NeuronCase::kAll, false},
    {true, false, Activation::kSilu, NeuronCase::kByActivations, true},
    {true, true, Activation::kRelu, NeuronCase::kByScores, true},
    {false, false, Activation::kReluSquared, NeuronCase::kByScores, true},
};

struct NeuronOperands {
  Tensor gate, up, gate_bias, up_bias, x, needs;
  List list{kNeurons};

  NeuronOperands(DType dtype, const NeuronCase& test, int64_t n_tokens)
      : gate(RandomWeights(dtype, kNeurons, kEmbd, 1).Packed()),
        up(RandomWeights(dtype, kNeurons, kEmbd, 2).Packed()),
        gate_bias(RandomActivations(1, kNeurons, 3)),
        up_bias(RandomActivations(1, kNeurons, 4)),
        x(RandomActivations(n_tokens, kEmbd, 5, 0)),
        needs(RandomActivations(n_tokens, kNeurons, 6)) {
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = 0; i < kNeurons; ++i) {
        if (needs.at(t, i) < 0.3f && test.needs == NeuronCase::kByActivations) needs.at(t, i) = 0;
      }
    }
    for (int32_t i = 1; i < kNeurons; i += 3) {
      list.ids[static_cast<size_t>(list.n_active++)] = i;
    }
  }
};

inline Tensor RunNeurons(Ops& ops, const NeuronCase& test, NeuronOperands& in) {
  Tensor a = RandomActivations(in.x.view().n_rows, kNeurons, 7);
  NeuronWeights weights = {.gate = {},
                           .gate_bias = {},
                           .up = in.up.view(),
                           .up_bias = in.up_bias.view(),
                           .activates_up = test.activates_up};
  if (test.gated) weights.gate = in.gate.view(), weights.gate_bias = in.gate_bias.view();
  NeuronNeeds needs;
  if (test.needs == NeuronCase::kByActivations) needs.activations = in.needs.view();
  if (test.needs == NeuronCase::kByScores) needs.scores = in.needs.view(), needs.threshold = 0.3f;
  ops.Neurons(weights, test.kind, in.x.view(), test.is_listed ? in.list.get() : ActiveIds::All(),
              needs, a.view());
  return a;
}

inline Tensor Axpy(Ops& ops, const Tensor& w, const Tensor& a, ActiveIds active,
                   const Tensor& bias) {
  Tensor y = RandomActivations(a.view().n_rows, w.view().n_cols, 99);  // old values that must go
  ops.AxpyRows(w.view(), a.view(), active, bias.view(), y.view());
  return y;
}

}  // namespace thermocline::kernels
