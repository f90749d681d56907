// Embedding, norms, products of whole matrices, rope and elements.
#include "conformance_operands.h"
#include "device_conformance.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

Tensor MatMul(Ops& ops, const Tensor& w, const Tensor& x, const Tensor& bias) {
  Tensor y(DType::kF32, x.view().n_rows, w.view().n_rows, 4);
  ops.MatMul(w.view(), x.view(), bias.view(), y.view());
  return y;
}

TEST_P(DeviceConformanceTest, EmbedGivesTheBitsOfTheReference) {
  StagedOps ops(device());
  const std::vector<int32_t> ids = {5, 0, 5, 2, 10};
  for (const DType dtype : kDeviceWeightTypes) {
    for (const int64_t n_embd : RowLengths(dtype)) {
      const Tensor table = RandomWeights(dtype, 11, n_embd, 1);
      Tensor y(DType::kF32, 5, n_embd, 4);
      ops.Embed(table.Packed().view(), ids, y.view());
      for (size_t t = 0; t < ids.size(); ++t) {
        EXPECT_EQ(y.Floats(static_cast<int64_t>(t)), table.Floats(ids[t]))
            << Name(dtype, 5, 11, n_embd);
      }
    }
  }
}

TEST_P(DeviceConformanceTest, NormsAgreeWithTheReferenceInPlaceToo) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const int64_t n : {1, 33, 300, 1030}) {
    Tensor x = RandomActivations(3, n, 3);
    for (int64_t c = 0; c < n; ++c) x.at(1, c) += 1000.0f;  // a mean that would eat the variance
    const Tensor weight = RandomWeights(n % 2 ? DType::kF32 : DType::kF16, 1, n, 4);
    const Tensor bias = n == 33 ? Tensor() : RandomActivations(1, n, 5);
    Tensor expected(DType::kF32, 3, n), y(DType::kF32, 3, n), in_place = x;
    const auto bound = [&](int64_t r, int64_t c) {
      return 4 * kRounding * (std::abs(expected.at(r, c)) + std::sqrt(static_cast<double>(n)));
    };
    reference->ops().RmsNorm(x.view(), weight.view(), 1e-5f, expected.view());
    ops.RmsNorm(x.view(), weight.view(), 1e-5f, y.view());
    ExpectNear(y, expected, bound, "rms_norm");
    ops.RmsNorm(in_place.view(), weight.view(), 1e-5f, in_place.view());
    ExpectSameBits(in_place, y, "in place");
    reference->ops().LayerNorm(x.view(), weight.view(), bias.view(), 1e-5f, expected.view());
    ops.LayerNorm(x.view(), weight.view(), bias.view(), 1e-5f, y.view());
    ExpectNear(y, expected, bound, "layer_norm");
  }
}

TEST_P(DeviceConformanceTest, MatMulAgreesWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kDeviceWeightTypes) {
    for (const int64_t n_in : RowLengths(dtype)) {
      for (const int64_t n_tokens : {1, 11}) {
        const Tensor w = RandomWeights(dtype, 13, n_in, 1).Packed();
        const Tensor x = RandomActivations(n_tokens, n_in, 2, n_in == 512 ? 0 : 12);
        const Tensor bias = n_tokens == 1 ? RandomActivations(1, 13, 3) : Tensor();
        ExpectNear(
            MatMul(ops, w, x, bias), MatMul(reference->ops(), w, x, bias),
            [&](int64_t t, int64_t i) { return DotError(w) * (Norm(w, i, x, t) + 4); },
            Name(dtype, n_tokens, 13, n_in));
      }
    }
  }
}

TEST_P(DeviceConformanceTest, MatMulGivesATokenTheBitsItHasAlone) {
  StagedOps ops(device());
  for (const DType dtype : kDeviceWeightTypes) {
    for (const int64_t n_in : {512, 1280}) {
      const Tensor w = RandomWeights(dtype, 6, n_in, 4).Packed();
      const Tensor x = RandomActivations(10, n_in, 5, 0);
      const Tensor together = MatMul(ops, w, x, Tensor());
      ExpectSameBits(MatMul(ops, w, x, Tensor()), together, "again");
      for (const int64_t t : {0, 7, 9}) {
        ExpectSameBits(MatMul(ops, w, x.Rows(t, 1), Tensor()), together.Rows(t, 1),
                       Name(dtype, 10, 6, n_in));
      }
    }
  }
}

TEST_P(DeviceConformanceTest, AnActivationThatIsNotANumberShowsInEveryProduct) {
  StagedOps ops(device());
  for (const DType dtype : kDeviceWeightTypes) {
    const Tensor w = RandomWeights(dtype, 5, 512, 19).Packed();
    for (const int64_t column : {0, 17, 511}) {
      Tensor x = RandomActivations(2, 512, 20);
      x.at(1, column) = column == 17 ? INFINITY : NAN;
      const Tensor y = MatMul(ops, w, x, Tensor());
      for (int64_t i = 0; i < 5; ++i) {
        EXPECT_TRUE(std::isfinite(y.at(0, i))) << DTypeName(dtype);
        EXPECT_FALSE(std::isfinite(y.at(1, i))) << DTypeName(dtype) << " column=" << column;
      }
    }
  }
}

TEST_P(DeviceConformanceTest, RopeAgreesWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  const std::vector<int64_t> positions = {0, 1, 77, 131071, 5};
  const std::vector<float> divisors = {1, 1.25f, 1.5f, 2, 3, 4, 5, 6, 7, 8, 9};
  for (const RopeArgs& args : {RopeArgs{RopePairing::kAdjacent, 24, 500000.0f, 0.5f, {}},
                               RopeArgs{RopePairing::kHalves, 24, 10000.0f, 1.0f, {}},
                               RopeArgs{RopePairing::kHalves, 22, 10000.0f, 1.0f, divisors}}) {
    const Tensor x = RandomActivations(5, 3 * 24, 14);
    Tensor expected = x, y = x;
    reference->ops().Rope(args, positions, 24, expected.view());
    ops.Rope(args, positions, 24, y.view());
    ExpectNear(
        y, expected, [](int64_t, int64_t) { return 4 * kRounding * 6.0; }, "rope");
  }
}

TEST_P(DeviceConformanceTest, ElementsAgreeWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const int64_t n : {1, 37, 600}) {
    Tensor gate = RandomActivations(3, n, 12);
    for (int64_t c = 0; c < n; ++c) gate.at(1, c) *= 20.0f;  // where silu saturates
    for (const Tensor& up : {Tensor(), RandomActivations(3, n, 13)}) {
      for (const Activation kind :
           {Activation::kSilu, Activation::kRelu, Activation::kReluSquared}) {
        Tensor expected(DType::kF32, 3, n), y = gate;
        reference->ops().Activate(kind, gate.view(), up.view(), expected.view());
        ops.Activate(kind, y.view(), up.view(), y.view());
        ExpectNear(
            y, expected,
            [&](int64_t r, int64_t c) { return 1e-6 * std::abs(expected.at(r, c)) + 1e-37; },
            "activate");
      }
    }
    const Tensor b = RandomActivations(3, n, 11);
    Tensor expected(DType::kF32, 3, n), y = gate;
    reference->ops().Add(gate.view(), b.view(), expected.view());
    ops.Add(y.view(), b.view(), y.view());
    ExpectSameBits(y, expected, "add");
    ops.Copy(b.view(), y.view());
    ExpectSameBits(y, b, "copy");
    ops.Copy(expected.view(), y.view());
    reference->ops().ZeroBelow(expected.view(), 0.5f);
    ops.ZeroBelow(y.view(), 0.5f);
    ExpectSameBits(y, expected, "zero_below");
  }
}

// Up to three passes over blocks of 1024; with ties, and with what is no number.
TEST_P(DeviceConformanceTest, BestLogitsAreThoseOfTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const int64_t n_vocab : {64, 1025, 17000}) {
    Tensor logits = RandomActivations(3, n_vocab, 7);
    for (int64_t c = 0; c < n_vocab; c += 3) logits.at(1, c) = std::round(2 * logits.at(1, c));
    for (int64_t c = 0; c < n_vocab; ++c) logits.at(2, c) = c % 2 == 0 ? -0.0f : 0.0f;
    logits.at(0, 3) = std::numeric_limits<float>::quiet_NaN();
    logits.at(0, 40) = logits.at(0, 60) = kInf;
    logits.at(0, 50) = -kInf;
    for (const int k : {1, kMaxBest}) {
      Tensor best(DType::kF32, 3, 2 * k), expected(DType::kF32, 3, 2 * k);
      ops.SelectBest(logits.view(), k, best.view());
      reference->ops().SelectBest(logits.view(), k, expected.view());
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t i = 0; i < k; ++i) {
          EXPECT_EQ(best.at(t, 2 * i), expected.at(t, 2 * i)) << n_vocab << " " << t << " " << i;
          EXPECT_EQ(std::bit_cast<int32_t>(best.at(t, 2 * i + 1)),
                    std::bit_cast<int32_t>(expected.at(t, 2 * i + 1)))
              << n_vocab << " " << t << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline::kernels
