// Products of packed rows in the shapes where the kernels' blocks end: rows of more units than a
// segment, last units with fewer lanes, more tokens than a block.
#include <gtest/gtest.h>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

constexpr DType kLaneTypes[] = {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K,
                                DType::kQ6_K};

struct Shape {
  int64_t n_tokens, n_out, n_in;
};

std::vector<Shape> Shapes(DType dtype) {
  std::vector<Shape> shapes = {
      {1, 9, 4608},    // nine units: two segments of four and one
      {4, 11, 2304},   // four units and half of one
      {65, 9, 2304},   // a block of tokens and one
      {131, 3, 4864},  // two blocks; nine units and a half
  };
  if (Traits(dtype).block_elems > kGroupElems) return shapes;
  for (const Shape& one_lane_left :
       {Shape{1, 5, 32}, Shape{2, 5, 544}, Shape{6, 5, 2080}, Shape{66, 9, 2080}}) {
    shapes.push_back(one_lane_left);
  }
  return shapes;
}

struct Operands {
  Tensor w, x, bias;

  Operands(DType dtype, const Shape& shape)
      : w(RandomWeights(dtype, shape.n_out, shape.n_in, 1).Packed()),
        x(RandomActivations(shape.n_tokens, shape.n_in, 2)),
        bias(shape.n_out % 4 == 1 ? RandomActivations(1, shape.n_out, 3) : Tensor()) {}
};

Tensor Product(Device& device, const Tensor& w, const Tensor& x, const Tensor& bias) {
  Tensor y(DType::kF32, x.view().n_rows, w.view().n_rows, 4);
  device.ops().MatMul(w.view(), x.view(), bias.view(), y.view());
  return y;
}

// What product t, i may be off by. A block's integer sum is exact; of a lane's n / 512 blocks each
// passes a rounding of its scale, one of the product and one of the sum, with a minimum twice as
// many; then four of the tree and the bias. Those of the reference, in doubles, do not count.
struct Bounds {
  std::vector<std::vector<float>> rows;
  const Operands& in;

  explicit Bounds(const Operands& operands) : in(operands) {
    for (int64_t i = 0; i < in.w.view().n_rows; ++i) rows.push_back(in.w.Floats(i));
  }
  double operator()(int64_t t, int64_t i) const {
    const std::vector<float>& row = rows[static_cast<size_t>(i)];
    const float* x = in.x.view().f32_row(t);
    double norm = in.bias.view().empty() ? 1e-30 : std::abs(in.bias.at(0, i));
    for (size_t c = 0; c < row.size(); ++c) norm += std::abs(static_cast<double>(row[c]) * x[c]);
    // A minimum may nearly cancel the quants: the terms are a few times larger than the weights.
    constexpr double kCancelled = 4;
    return kCancelled * (6.0 * static_cast<double>(row.size() / 512 + 1) + 5) * kRounding * norm;
  }
};

std::string Name(DType dtype, const Shape& shape) {
  return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(shape.n_tokens) +
         " n_out=" + std::to_string(shape.n_out) + " n_in=" + std::to_string(shape.n_in);
}

TEST(MatMulLanesTest, AgreesWithTheReference) {
  const auto cpu = Cpu();
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kLaneTypes) {
    for (const Shape& shape : Shapes(dtype)) {
      const Operands in(dtype, shape);
      const Bounds bounds(in);
      const Tensor expected = Product(*reference, in.w, in.x, in.bias);
      OnEachInstructionSet([&] {
        ExpectNear(Product(*cpu, in.w, in.x, in.bias), expected, bounds, Name(dtype, shape));
      });
    }
  }
}

// The first and last tokens of each block of 64, by the kernels for one and for a few tokens.
TEST(MatMulLanesTest, ATokenHasTheSameBitsInEveryKernel) {
  const auto cpu = Cpu();
  for (const DType dtype : kLaneTypes) {
    for (const Shape& shape : Shapes(dtype)) {
      const Operands in(dtype, shape);
      OnEachInstructionSet([&] {
        const Tensor together = Product(*cpu, in.w, in.x, in.bias);
        for (const int64_t t : {int64_t{0}, int64_t{63}, int64_t{64}, shape.n_tokens - 1}) {
          for (const int64_t n : {1, 2}) {
            if (t + n > shape.n_tokens) continue;
            ExpectSameBits(Product(*cpu, in.w, in.x.Rows(t, n), in.bias), together.Rows(t, n),
                           Name(dtype, shape));
          }
        }
      });
    }
  }
}

TEST(MatMulLanesTest, ThreadsAndInstructionSetsDoNotChangeABit) {
  for (const DType dtype : kLaneTypes) {
    for (const Shape& shape : Shapes(dtype)) {
      const Operands in(dtype, shape);
      const Tensor one = Product(*Cpu(1), in.w, in.x, in.bias);
      OnEachInstructionSet(
          [&] { ExpectSameBits(Product(*Cpu(3), in.w, in.x, in.bias), one, Name(dtype, shape)); },
          HasFusedMultiplyAdd);
    }
  }
}

}  // namespace
}  // namespace thermocline::kernels
