#include <gtest/gtest.h>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

struct Shape {
  int64_t n_tokens, n_out, n_in;
};

// A multiple of every block, one beyond a column block of the kernel, more tokens than it takes at
// once, and float rows that end within a vector.
std::vector<Shape> Shapes(DType dtype) {
  std::vector<Shape> shapes = {
      {1, 37, 256}, {2, 8, 512}, {3, 1, 256}, {7, 11, 1280}, {17, 13, 256}};
  if (Traits(dtype).block_elems <= 32) shapes.push_back({5, 9, 96}), shapes.push_back({1, 9, 864});
  if (IsFloat(dtype)) shapes.push_back({4, 6, 77}), shapes.push_back({1, 5, 45});
  if (IsFloat(dtype)) shapes.push_back({98, 9, 1064}), shapes.push_back({1, 3, 2100});
  return shapes;
}

// What the sum of n products may be off by: each product passes at most n / 8 + 8 roundings (two
// chains of at least four lanes, the lanes' own sum, the bias).
double Bound(const std::vector<float>& w, const float* x, float bias) {
  double norm = std::abs(bias) + 1e-30;
  for (size_t i = 0; i < w.size(); ++i) norm += std::abs(static_cast<double>(w[i]) * x[i]);
  return (static_cast<double>(w.size()) / 8 + 8) * kRounding * norm;
}

Tensor MatMul(Device& device, const Tensor& w, const Tensor& x, const Tensor& bias) {
  Tensor y(DType::kF32, x.view().n_rows, w.view().n_rows, 4);
  device.ops().MatMul(w.view(), x.view(), bias.view(), y.view());
  return y;
}

std::string Name(DType dtype, const Shape& shape) {
  return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(shape.n_tokens) +
         " n_out=" + std::to_string(shape.n_out) + " n_in=" + std::to_string(shape.n_in);
}

TEST(MatMulTest, AgreesWithTheReference) {
  const auto cpu = Cpu();
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : Shapes(dtype)) {
        const Tensor file = RandomWeights(dtype, shape.n_out, shape.n_in, 1);
        const Tensor x = RandomActivations(shape.n_tokens, shape.n_in, 2);
        const Tensor bias = shape.n_out % 2 ? RandomActivations(1, shape.n_out, 3) : Tensor();
        for (const Tensor& w : {file, file.Packed()}) {
          ExpectNear(
              MatMul(*cpu, w, x, bias), MatMul(*reference, w, x, bias),
              [&](int64_t t, int64_t i) {
                return Bound(w.Floats(i), x.view().f32_row(t),
                             bias.view().empty() ? 0 : bias.at(0, i));
              },
              Name(dtype, shape));
        }
      }
    }
  });
}

TEST(MatMulTest, ATokenAloneHasTheSameBits) {
  const auto cpu = Cpu();
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : Shapes(dtype)) {
        const Tensor file = RandomWeights(dtype, shape.n_out, shape.n_in, 4);
        const Tensor x = RandomActivations(shape.n_tokens, shape.n_in, 5);
        for (const Tensor& w : {file, file.Packed()}) {
          const Tensor together = MatMul(*cpu, w, x, Tensor());
          for (int64_t t = 0; t < shape.n_tokens; ++t) {
            ExpectSameBits(MatMul(*cpu, w, x.Rows(t, 1), Tensor()), together.Rows(t, 1),
                           Name(dtype, shape));
          }
        }
      }
    }
  });
}

TEST(MatMulTest, ThreadsDoNotChangeABit) {
  for (const DType dtype : {DType::kF16, DType::kQ4_K}) {
    for (const int64_t n_tokens : {1, 9, 65}) {
      const Tensor w = RandomWeights(dtype, 203, 512, 6).Packed();
      const Tensor x = RandomActivations(n_tokens, 512, 7);
      const Tensor one = MatMul(*Cpu(1), w, x, Tensor());
      for (const int n_threads : {2, 3, 5}) {
        ExpectSameBits(MatMul(*Cpu(n_threads), w, x, Tensor()), one, std::string(DTypeName(dtype)));
      }
    }
  }
}

TEST(MatMulTest, PackedRowsGiveTheSameBitsOnEverySetWithFusedMultiplyAdd) {
  const auto cpu = Cpu();
  for (const DType dtype : kWeightTypes) {
    if (!HasLanes(dtype)) continue;
    for (const int64_t n_tokens : {1, 6}) {
      const Tensor w = RandomWeights(dtype, 21, 1280, 16).Packed();
      const Tensor x = RandomActivations(n_tokens, 1280, 17);
      const Tensor best = MatMul(*cpu, w, x, Tensor());
      OnEachInstructionSet(
          [&] {
            ExpectSameBits(MatMul(*cpu, w, x, Tensor()), best, std::string(DTypeName(dtype)));
          },
          HasFusedMultiplyAdd);
    }
  }
}

TEST(MatMulTest, PackedRowsAndActivationsOfExtremes) {
  for (const DType dtype : kWeightTypes) {
    if (!HasLanes(dtype)) continue;
    const Tensor w = RandomWeights(dtype, 5, 512, 18).Packed();
    Tensor x(DType::kF32, 3, 512);
    for (int64_t c = 0; c < 512; ++c) {
      x.at(1, c) = c % 2 == 0 ? 1e30f : -1e30f;
      x.at(2, c) = 1e-42f;
    }
    OnEachInstructionSet([&] {
      const Tensor y = MatMul(*Cpu(), w, x, Tensor());
      for (int64_t i = 0; i < 5; ++i) {
        EXPECT_EQ(y.at(0, i), 0.0f) << DTypeName(dtype);
        EXPECT_TRUE(std::isfinite(y.at(1, i))) << DTypeName(dtype);
        EXPECT_TRUE(std::isfinite(y.at(2, i))) << DTypeName(dtype);
      }
    });
  }
}

TEST(MatMulTest, AnActivationThatIsNotANumberShowsInEveryProduct) {
  for (const DType dtype : kWeightTypes) {
    const Tensor w = RandomWeights(dtype, 5, 512, 19).Packed();
    for (const int64_t column : {0, 17, 30, 511}) {
      Tensor x = RandomActivations(2, 512, 20);
      x.at(1, column) = column == 17 ? INFINITY : NAN;
      OnEachInstructionSet([&] {
        for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
          const Tensor y = MatMul(*device, w, x, Tensor());
          for (int64_t i = 0; i < 5; ++i) {
            EXPECT_TRUE(std::isfinite(y.at(0, i))) << DTypeName(dtype);
            EXPECT_FALSE(std::isfinite(y.at(1, i))) << DTypeName(dtype) << " column=" << column;
          }
        }
      });
    }
  }
}

TEST(MatMulTest, NoTokens) {
  const Tensor w = RandomWeights(DType::kF32, 3, 32, 8);
  for (const auto& device : {Cpu(2), MakeReferenceDevice()}) {
    EXPECT_EQ(MatMul(*device, w, Tensor(DType::kF32, 0, 32), Tensor()).view().n_rows, 0);
  }
}

}  // namespace
}  // namespace thermocline::kernels
