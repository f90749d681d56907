#include <gtest/gtest.h>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

constexpr int64_t kNeurons = 61;
constexpr int64_t kEmbd = 512;

struct Case {
  bool gated = true;
  bool activates_up = false;
  Activation kind = Activation::kRelu;
  enum { kAll, kByActivations, kByScores } needs = kAll;
};

constexpr Case kCases[] = {
    {true, false, Activation::kRelu, Case::kAll},
    {true, false, Activation::kSilu, Case::kByActivations},
    {true, true, Activation::kRelu, Case::kByScores},
    {false, false, Activation::kReluSquared, Case::kByScores},
};

struct Operands {
  Tensor gate, up, gate_bias, up_bias, x, needs;
  std::vector<int32_t> ids;
  int32_t n_active = 0;

  Operands(DType dtype, const Case& test, int64_t n_tokens)
      : gate(RandomWeights(dtype, kNeurons, kEmbd, 1).Packed()),
        up(RandomWeights(dtype, kNeurons, kEmbd, 2).Packed()),
        gate_bias(RandomActivations(1, kNeurons, 3)),
        up_bias(RandomActivations(1, kNeurons, 4)),
        x(RandomActivations(n_tokens, kEmbd, 5)),
        needs(RandomActivations(n_tokens, kNeurons, 6)) {
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = 0; i < kNeurons; ++i) {
        if (needs.at(t, i) < 0.3f && test.needs == Case::kByActivations) needs.at(t, i) = 0;
      }
    }
    for (int32_t i = 1; i < kNeurons; i += 3) ids.push_back(i);
    n_active = static_cast<int32_t>(ids.size());
  }
};

Tensor RunNeurons(Device& device, const Case& test, Operands& in) {
  Tensor a = RandomActivations(in.x.view().n_rows, kNeurons, 7);
  NeuronWeights weights = {.gate = {},
                           .gate_bias = {},
                           .up = in.up.view(),
                           .up_bias = in.up_bias.view(),
                           .activates_up = test.activates_up};
  if (test.gated) weights.gate = in.gate.view(), weights.gate_bias = in.gate_bias.view();
  NeuronNeeds needs;
  if (test.needs == Case::kByActivations) needs.activations = in.needs.view();
  if (test.needs == Case::kByScores) needs.scores = in.needs.view(), needs.threshold = 0.3f;
  device.ops().Neurons(weights, test.kind, in.x.view(), {in.ids.data(), &in.n_active, kNeurons},
                       needs, a.view());
  return a;
}

// |gate| |up| of a product of two dot products, each off by its own rounding.
double Bound(const Operands& in, int64_t t, int64_t i) {
  double norms[2] = {4, 4};
  const Tensor* weights[2] = {&in.gate, &in.up};
  for (int m = 0; m < 2; ++m) {
    const std::vector<float> row = weights[m]->Floats(i);
    for (int64_t c = 0; c < kEmbd; ++c) {
      norms[m] += std::abs(row[static_cast<size_t>(c)] * in.x.at(t, c));
    }
  }
  return (kEmbd / 4 + 16) * kRounding * std::max(norms[0], norms[1]) * std::max(norms[0], norms[1]);
}

TEST(NeuronsTest, AgreesWithTheReferenceAndLeavesOtherColumns) {
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kWeightTypes) {
    for (const Case& test : kCases) {
      for (const int64_t n_tokens : {1, 5}) {
        Operands in(dtype, test, n_tokens);
        const Tensor expected = RunNeurons(*reference, test, in);
        OnEachInstructionSet([&] {
          for (const auto& cpu : {Cpu(1), Cpu(3)}) {
            const Tensor a = RunNeurons(*cpu, test, in);
            ExpectNear(
                a, expected,
                [&](int64_t t, int64_t i) { return i % 3 == 1 ? Bound(in, t, i) : 0.0; },
                std::string(DTypeName(dtype)));
          }
        });
      }
    }
  }
}

TEST(NeuronsTest, ATokenThatDoesNotNeedANeuronGetsZero) {
  const Case test = kCases[2];
  for (const auto& device : {Cpu(2), MakeReferenceDevice()}) {
    Operands in(DType::kF16, test, 4);
    const Tensor a = RunNeurons(*device, test, in);
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t i = 1; i < kNeurons; i += 3) {
        if (in.needs.at(t, i) >= 0.3f) continue;
        EXPECT_EQ(a.at(t, i), 0.0f);
      }
    }
  }
}

TEST(NeuronsTest, ATokenAloneHasTheSameBits) {
  const auto cpu = Cpu(2);
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Case& test : kCases) {
        Operands in(dtype, test, 6);
        const Tensor together = RunNeurons(*cpu, test, in);
        const Tensor x = in.x, needs = in.needs;
        for (int64_t t = 0; t < 6; ++t) {
          in.x = x.Rows(t, 1), in.needs = needs.Rows(t, 1);
          const Tensor alone = RunNeurons(*cpu, test, in);
          for (const int32_t i : in.ids) {
            EXPECT_EQ(std::bit_cast<uint32_t>(alone.at(0, i)),
                      std::bit_cast<uint32_t>(together.at(t, i)))
                << DTypeName(dtype) << " token=" << t << " neuron=" << i;
          }
        }
      }
    }
  });
}

// More neurons than a chunk and more tokens than a word has bits, on one thread and on several.
TEST(NeuronsTest, ChunksAndThreadsDoNotChangeABit) {
  constexpr int64_t kManyNeurons = 203, kManyTokens = 70, kCols = 96;
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    const Tensor gate = RandomWeights(dtype, kManyNeurons, kCols, 21).Packed();
    const Tensor up = RandomWeights(dtype, kManyNeurons, kCols, 22).Packed();
    const Tensor x = RandomActivations(kManyTokens, kCols, 23);
    const Tensor scores = RandomActivations(kManyTokens, kManyNeurons, 24);
    const auto run = [&](Device& device, int64_t first, int64_t n) {
      const Tensor rows = x.Rows(first, n), needed = scores.Rows(first, n);
      Tensor a(DType::kF32, n, kManyNeurons);
      device.ops().Neurons({.gate = gate.view(), .up = up.view()}, Activation::kRelu, rows.view(),
                           ActiveIds::All(), {.scores = needed.view(), .threshold = 0.2f},
                           a.view());
      return a;
    };
    const Tensor expected = run(*Cpu(1), 0, kManyTokens);
    ExpectSameBits(run(*Cpu(3), 0, kManyTokens), expected, "threads");
    for (const int64_t t : {0, 5, 63, 64, 69}) {
      ExpectSameBits(run(*Cpu(2), t, 1), expected.Rows(t, 1), "alone");
    }
  }
}

TEST(SelectAtLeastTest, ListsTheColumnsThatReachTheThresholdSomewhere) {
  OnEachInstructionSet([&] {
    for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
      for (const int64_t n : {1, 16, 37}) {
        Tensor scores = RandomActivations(2, n, 8);
        scores.at(1, 0) = 0.5f;  // on the threshold
        std::vector<int32_t> ids(static_cast<size_t>(n)), expected;
        int32_t n_active = 0;
        device->ops().SelectAtLeast(scores.view(), 0.5f,
                                    {ids.data(), &n_active, static_cast<int32_t>(n)});
        for (int32_t i = 0; i < n; ++i) {
          if (scores.at(0, i) >= 0.5f || scores.at(1, i) >= 0.5f) expected.push_back(i);
        }
        ids.resize(static_cast<size_t>(n_active));
        EXPECT_EQ(ids, expected);
      }
    }
  });
}

TEST(ZeroBelowTest, KeepsWhatReachesTheThresholdOnEitherSide) {
  OnEachInstructionSet([&] {
    for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
      Tensor a = RandomActivations(3, 37, 9);
      a.at(0, 0) = -0.5f, a.at(0, 1) = 0.5f;
      const Tensor before = a;
      device->ops().ZeroBelow(a.view(), 0.5f);
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t i = 0; i < 37; ++i) {
          const bool stays = std::abs(before.at(t, i)) >= 0.5f;
          EXPECT_EQ(a.at(t, i), stays ? before.at(t, i) : 0.0f);
        }
      }
    }
  });
}

TEST(TrafficTest, CountsTheRowsOfActiveNeuronsOnce) {
  const auto cpu = Cpu();
  const Case test = kCases[0];
  Operands in(DType::kF16, test, 3);
  const Traffic before = cpu->ops().traffic();
  const Tensor a = RunNeurons(*cpu, test, in);
  const Traffic read = cpu->ops().traffic() - before;
  size_t n_up = 0;  // rows of up: where some token's gate is not 0
  for (const int32_t i : in.ids) n_up += a.at(0, i) != 0 || a.at(1, i) != 0 || a.at(2, i) != 0;
  ASSERT_LT(n_up, in.ids.size());
  EXPECT_EQ(read.neuron_bytes, (in.ids.size() + n_up) * kEmbd * 2);
  EXPECT_EQ(read.weight_bytes, read.neuron_bytes);
}

TEST(TrafficTest, CountsWhatPredictorsName) {
  const auto cpu = Cpu();
  Tensor scores(DType::kF32, 2, 10);
  scores.at(0, 3) = 1, scores.at(1, 3) = 1, scores.at(1, 7) = 1;
  std::vector<int32_t> ids(10);
  int32_t n_active = 0;
  const Traffic before = cpu->ops().traffic();
  cpu->ops().SelectAtLeast(scores.view(), 0.5f, {ids.data(), &n_active, 10});
  const Traffic read = cpu->ops().traffic() - before;
  EXPECT_EQ(read.n_neurons_scored, 10u);
  EXPECT_EQ(read.n_neurons_named, 2u);
  EXPECT_DOUBLE_EQ(read.named_density(), 0.2);
  EXPECT_EQ(read.n_neurons, 0u);  // nothing was added
}

}  // namespace
}  // namespace thermocline::kernels
