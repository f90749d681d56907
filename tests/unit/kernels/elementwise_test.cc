#include <gtest/gtest.h>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

// Sizes below, at and beyond a vector.
constexpr int64_t kSizes[] = {1, 7, 16, 33, 130};

// Error relative to each element's own size; results below the smallest normal F32 count as 0.
std::function<double(int64_t, int64_t)> Relative(const Tensor& expected, double error) {
  return [&expected, error](int64_t r, int64_t c) {
    return error * std::abs(expected.at(r, c)) + 0x1p-126;
  };
}

TEST(EmbedTest, GathersRowsOfEveryType) {
  const std::vector<int32_t> ids = {5, 0, 5, 2, 10};
  for (const auto& device : {Cpu(1), Cpu(3), MakeReferenceDevice()}) {
    OnEachInstructionSet([&] {
      for (const DType dtype : kWeightTypes) {
        const int64_t n_embd = IsFloat(dtype) ? 77 : 512;
        const Tensor table = RandomWeights(dtype, 11, n_embd, 1);
        Tensor y(DType::kF32, 5, n_embd, 4);
        for (const Tensor& stored : {table, table.Packed()}) {
          device->ops().Embed(stored.view(), ids, y.view());
          for (size_t t = 0; t < ids.size(); ++t) {
            EXPECT_EQ(y.Floats(static_cast<int64_t>(t)), table.Floats(ids[t])) << DTypeName(dtype);
          }
        }
      }
    });
  }
}

TEST(EmbedTest, NoTokens) {
  const Tensor table = RandomWeights(DType::kF16, 2, 8, 2);
  Tensor y(DType::kF32, 1, 8);
  y.at(0, 0) = 7;
  for (const auto& device : {Cpu(2), MakeReferenceDevice()}) {
    device->ops().Embed(table.view(), {}, y.view().Rows(0, 0));
    EXPECT_EQ(y.at(0, 0), 7) << "a row beyond the batch was written";
  }
}

TEST(NormTest, RmsNormAgreesWithTheReferenceInPlaceToo) {
  const auto reference = MakeReferenceDevice();
  for (const int n_threads : {1, 3}) {
    const auto cpu = Cpu(n_threads);
    for (const int64_t n : kSizes) {
      const Tensor x = RandomActivations(5, n, 3), weight = RandomActivations(1, n, 4);
      Tensor expected(DType::kF32, 5, n), y(DType::kF32, 5, n);
      reference->ops().RmsNorm(x.view(), weight.view(), 1e-5f, expected.view());
      cpu->ops().RmsNorm(x.view(), weight.view(), 1e-5f, y.view());
      ExpectNear(y, expected, Relative(expected, 4 * kRounding), "rms_norm");
      Tensor in_place = x;
      cpu->ops().RmsNorm(in_place.view(), weight.view(), 1e-5f, in_place.view());
      ExpectSameBits(in_place, y, "in place");
    }
  }
}

TEST(NormTest, LayerNormAgreesWithTheReferenceFarFromZero) {
  const auto reference = MakeReferenceDevice();
  const auto cpu = Cpu(2);
  for (const int64_t n : kSizes) {
    for (const bool with_bias : {false, true}) {
      Tensor x = RandomActivations(3, n, 5);
      for (int64_t c = 0; c < n; ++c) x.at(1, c) += 1000.0f;  // a mean that would eat the variance
      const Tensor weight = RandomActivations(1, n, 6);
      const Tensor bias = with_bias ? RandomActivations(1, n, 7) : Tensor();
      Tensor expected(DType::kF32, 3, n), y(DType::kF32, 3, n);
      reference->ops().LayerNorm(x.view(), weight.view(), bias.view(), 1e-5f, expected.view());
      cpu->ops().LayerNorm(x.view(), weight.view(), bias.view(), 1e-5f, y.view());
      // A normalised value is at most sqrt(n); weight, product and bias round once each.
      ExpectNear(
          y, expected,
          [&](int64_t, int64_t c) {
            const double scale = std::abs(weight.at(0, c)) * std::sqrt(static_cast<double>(n));
            return 4 * kRounding * (scale + (with_bias ? std::abs(bias.at(0, c)) : 0.0));
          },
          "layer_norm");
    }
  }
}

TEST(NormTest, WeightsOfOtherTypes) {
  const auto reference = MakeReferenceDevice();
  const Tensor x = RandomActivations(2, 40, 8), weight = RandomWeights(DType::kF16, 1, 40, 9);
  Tensor expected(DType::kF32, 2, 40), y(DType::kF32, 2, 40);
  reference->ops().RmsNorm(x.view(), weight.view(), 1e-6f, expected.view());
  Cpu()->ops().RmsNorm(x.view(), weight.view(), 1e-6f, y.view());
  ExpectNear(y, expected, Relative(expected, 4 * kRounding), "f16 weight");
}

TEST(NormTest, HandComputed) {
  Tensor x(DType::kF32, 1, 2), weight(DType::kF32, 1, 2), y(DType::kF32, 1, 2);
  x.at(0, 0) = 3.0f, x.at(0, 1) = 4.0f;
  weight.at(0, 0) = 1.0f, weight.at(0, 1) = 2.0f;
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    device->ops().RmsNorm(x.view(), weight.view(), 0.0f, y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), 3.0f / std::sqrt(12.5f));
    EXPECT_FLOAT_EQ(y.at(0, 1), 8.0f / std::sqrt(12.5f));
    device->ops().LayerNorm(x.view(), weight.view(), {}, 0.0f, y.view());
    EXPECT_FLOAT_EQ(y.at(0, 0), -1.0f);
    EXPECT_FLOAT_EQ(y.at(0, 1), 2.0f);
  }
}

TEST(AddTest, ExactAndInPlace) {
  const auto cpu = Cpu(2);
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const int64_t n : kSizes) {
      const Tensor a = RandomActivations(3, n, 10), b = RandomActivations(3, n, 11);
      Tensor expected(DType::kF32, 3, n), y = a;
      reference->ops().Add(a.view(), b.view(), expected.view());
      cpu->ops().Add(y.view(), b.view(), y.view());
      ExpectSameBits(y, expected, "add");
    }
  });
}

TEST(CopyTest, ColumnsOfAWiderMatrixAndNoOthers) {
  const auto cpu = Cpu(2);
  const auto reference = MakeReferenceDevice();
  for (const int64_t n : kSizes) {
    const Tensor x = RandomActivations(3, n, 10), before = RandomActivations(3, n + 37, 11);
    for (kernels::Device* const device : {cpu.get(), reference.get()}) {
      Tensor y = before;
      device->ops().Copy(x.view(), y.view().Cols(16, n));
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t c = 0; c < n + 37; ++c) {
          const bool is_copied = 16 <= c && c < 16 + n;
          ASSERT_EQ(y.at(t, c), is_copied ? x.at(t, c - 16) : before.at(t, c)) << t << " " << c;
        }
      }
    }
  }
}

TEST(ActivateTest, AgreesWithTheReference) {
  const auto cpu = Cpu(2);
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const Activation kind : {Activation::kSilu, Activation::kRelu, Activation::kReluSquared}) {
      for (const int64_t n : kSizes) {
        Tensor gate = RandomActivations(3, n, 12);
        for (int64_t c = 0; c < n; ++c) gate.at(1, c) *= 20.0f;  // where silu saturates
        for (const Tensor& up : {Tensor(), RandomActivations(3, n, 13)}) {
          Tensor expected(DType::kF32, 3, n), y = gate;
          reference->ops().Activate(kind, gate.view(), up.view(), expected.view());
          cpu->ops().Activate(kind, y.view(), up.view(), y.view());
          ExpectNear(y, expected, Relative(expected, 1e-6), "activate");
        }
      }
    }
  });
}

TEST(ActivateTest, ExtremesOfSilu) {
  Tensor gate(DType::kF32, 1, 5);
  const float values[] = {-1e30f, -200.0f, 0.0f, 200.0f, 1e30f};
  for (int64_t c = 0; c < 5; ++c) gate.at(0, c) = values[c];
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    Tensor y(DType::kF32, 1, 5);
    device->ops().Activate(Activation::kSilu, gate.view(), {}, y.view());
    EXPECT_EQ(y.at(0, 0), 0.0f);
    EXPECT_EQ(y.at(0, 1), 0.0f);
    EXPECT_EQ(y.at(0, 2), 0.0f);
    EXPECT_EQ(y.at(0, 3), 200.0f);
    EXPECT_EQ(y.at(0, 4), 1e30f);
  }
}

struct RopeCase {
  RopePairing pairing;
  int head_dim, n_rot;
  bool divisors;
};

TEST(RopeTest, AgreesWithTheReference) {
  const auto reference = MakeReferenceDevice();
  const auto cpu = Cpu(2);
  const std::vector<int64_t> positions = {0, 1, 77, 131071, 5};
  OnEachInstructionSet([&] {
    for (const RopeCase& test : {RopeCase{RopePairing::kAdjacent, 128, 128, false},
                                 RopeCase{RopePairing::kHalves, 64, 64, false},
                                 RopeCase{RopePairing::kHalves, 80, 20, true},
                                 RopeCase{RopePairing::kAdjacent, 24, 22, true}}) {
      std::vector<float> divisors;
      for (int i = 0; i < test.n_rot / 2 && test.divisors; ++i)
        divisors.push_back(1.0f + 0.25f * static_cast<float>(i));
      const RopeArgs args = {test.pairing, test.n_rot, 500000.0f, 0.5f, divisors};
      const Tensor x = RandomActivations(5, 3 * test.head_dim, 14);
      Tensor expected = x, y = x;
      reference->ops().Rope(args, positions, test.head_dim, expected.view());
      cpu->ops().Rope(args, positions, test.head_dim, y.view());
      // Cosine, sine and two products round once each, relative to the pair's length.
      ExpectNear(
          y, expected, [](int64_t, int64_t) { return 4 * kRounding * 6.0; }, "rope");
      for (int64_t c = test.n_rot; c < test.head_dim; ++c) EXPECT_EQ(y.at(2, c), x.at(2, c));
    }
  });
}

TEST(RopeTest, KeptAnglesFollowTheArguments) {
  const auto reference = MakeReferenceDevice();
  const auto cpu = Cpu();
  const std::vector<float> divisors = {2.0f, 3.0f};
  std::vector<RopeArgs> calls(5, RopeArgs{.n_rot = 4});
  calls[1].freq_base = 100.0f;
  calls[2].freq_scale = 0.25f;
  calls[3].freq_divisors = divisors;
  calls[4].n_rot = 2;
  for (const RopeArgs& args : calls) {
    for (const std::vector<int64_t>& positions : {std::vector<int64_t>{3}, {4}, {4}}) {
      const Tensor x = RandomActivations(1, 8, 15);
      Tensor expected = x, y = x;
      reference->ops().Rope(args, positions, 4, expected.view());
      cpu->ops().Rope(args, positions, 4, y.view());
      ExpectNear(
          y, expected, [](int64_t, int64_t) { return 4 * kRounding * 6.0; }, "rope");
    }
  }
}

TEST(RopeTest, AQuarterTurn) {
  // freq_base 1: every pair turns by the position; freq_scale pi / 2 makes that a quarter.
  const RopeArgs adjacent = {RopePairing::kAdjacent, 4, 1.0f, 1.57079633f, {}};
  const RopeArgs halves = {RopePairing::kHalves, 4, 1.0f, 1.57079633f, {}};
  const std::vector<int64_t> positions = {1};
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    Tensor x(DType::kF32, 1, 4);
    x.at(0, 0) = 1.0f;
    Tensor y = x;
    device->ops().Rope(adjacent, positions, 4, y.view());
    EXPECT_NEAR(y.at(0, 0), 0.0f, 1e-6f);
    EXPECT_NEAR(y.at(0, 1), 1.0f, 1e-6f);
    y = x;
    device->ops().Rope(halves, positions, 4, y.view());
    EXPECT_NEAR(y.at(0, 2), 1.0f, 1e-6f);
  }
}

}  // namespace
}  // namespace thermocline::kernels
