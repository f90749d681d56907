// Sums of packed rows in the shapes where the kernels' passes end: rows of more than 16 units, a
// last unit of one lane, more tokens and neurons than a block.
#include <gtest/gtest.h>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

constexpr DType kLaneTypes[] = {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K,
                                DType::kQ6_K};
constexpr int64_t kNeurons = 23;  // a block of 16, a four and three

// 17 units and one lane, or half a unit where eight lanes go together.
int64_t WideRow(DType dtype) {
  return 17 * kUnitElems + (Traits(dtype).block_elems > kGroupElems ? kSuperElems : kGroupElems);
}

struct Operands {
  Tensor file, a, bias;
  std::vector<int32_t> ids;
  int32_t n_active = 0;

  Operands(DType dtype, int64_t n_tokens)
      : file(RandomWeights(dtype, kNeurons, WideRow(dtype), 1)),
        a(RandomActivations(n_tokens, kNeurons, 2)),
        bias(RandomActivations(1, WideRow(dtype), 3)) {
    for (int32_t i = 0; i < kNeurons; ++i) {
      if (i % 5 != 2) ids.push_back(i);
    }
    n_active = static_cast<int32_t>(ids.size());
    ids.resize(kNeurons);
  }
  ActiveIds active() { return {ids.data(), &n_active, kNeurons}; }
};

Tensor Sum(Device& device, const Tensor& w, const Operands& in, ActiveIds active) {
  Tensor y = RandomActivations(in.a.view().n_rows, w.view().n_cols, 99);  // old values must go
  device.ops().AxpyRows(w.view(), in.a.view(), active, in.bias.view(), y.view());
  return y;
}

// What element t, c may be off by: a chain of kNeurons multiply-adds and the bias, each product
// passing at most two roundings a step.
struct Bounds {
  std::vector<std::vector<float>> rows;
  const Operands& in;

  explicit Bounds(const Operands& operands) : in(operands) {
    for (int64_t i = 0; i < kNeurons; ++i) rows.push_back(in.file.Floats(i));
  }
  double operator()(int64_t t, int64_t c) const {
    double norm = std::abs(in.bias.at(0, c));
    for (int64_t i = 0; i < kNeurons; ++i) {
      norm += std::abs(in.a.at(t, i) * rows[static_cast<size_t>(i)][static_cast<size_t>(c)]);
    }
    return (2 * kNeurons + 2) * kRounding * norm;
  }
};

TEST(AxpyLanesTest, WideRowsAgreeWithTheReference) {
  const auto cpu = Cpu();
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kLaneTypes) {
    for (const int64_t n_tokens : {1, 3, 18}) {
      Operands in(dtype, n_tokens);
      const Bounds bounds(in);
      const Tensor w = in.file.Packed();
      for (const ActiveIds& active : {ActiveIds::All(), in.active()}) {
        const Tensor expected = Sum(*reference, w, in, active);
        OnEachInstructionSet([&] {
          ExpectNear(Sum(*cpu, w, in, active), expected, bounds, std::string(DTypeName(dtype)));
        });
      }
    }
  }
}

TEST(AxpyLanesTest, WideRowsGiveTheBitsOfTheFilesOnAnyThreads) {
  for (const DType dtype : kLaneTypes) {
    for (const int64_t n_tokens : {1, 18}) {
      Operands in(dtype, n_tokens);
      const Tensor w = in.file.Packed();
      OnEachInstructionSet([&] {
        for (const ActiveIds& active : {ActiveIds::All(), in.active()}) {
          const Tensor expected = Sum(*Cpu(1), in.file, in, active);
          for (const int n_threads : {1, 3}) {
            ExpectSameBits(Sum(*Cpu(n_threads), w, in, active), expected,
                           std::string(DTypeName(dtype)));
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace thermocline::kernels
