// Active lists, the neurons that they name, and sums of neuron rows.
#include <algorithm>

#include "conformance_operands.h"
#include "device_conformance.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

TEST_P(DeviceConformanceTest, SelectionsAreThoseOfTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const int64_t n_ff : {1, 31, 256, 257, 1500}) {
    for (const int64_t n_tokens : {0, 1, 3}) {
      const Tensor a = SparseActivations(n_tokens, n_ff, 13);
      List expected(n_ff), list(n_ff);
      reference->ops().SelectActive(a.view(), expected.get());
      ops.SelectActive(a.view(), list.get());
      EXPECT_EQ(list.listed(), expected.listed()) << n_ff << " tokens=" << n_tokens;
      reference->ops().SelectAtLeast(a.view(), 0.5f, expected.get());
      ops.SelectAtLeast(a.view(), 0.5f, list.get());
      EXPECT_EQ(list.listed(), expected.listed()) << n_ff << " tokens=" << n_tokens;
    }
  }
}

TEST_P(DeviceConformanceTest, NeuronsAgreeWithTheReferenceAndLeaveOtherColumns) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kDeviceWeightTypes) {
    for (const NeuronCase& test : kNeuronCases) {
      for (const int64_t n_tokens : {1, 5}) {
        NeuronOperands in(dtype, test, n_tokens);
        const Tensor expected = RunNeurons(reference->ops(), test, in);
        const auto bound = [&](int64_t t, int64_t i) {
          if (test.is_listed && i % 3 != 1) return 0.0;
          const double largest =
              std::max({Norm(in.gate, i, in.x, t), Norm(in.up, i, in.x, t), 4.0});
          return 2 * DotError(in.up) * largest * largest;
        };
        ExpectNear(RunNeurons(ops, test, in), expected, bound,
                   Name(dtype, n_tokens, kNeurons, kEmbd));
      }
    }
  }
}

TEST_P(DeviceConformanceTest, NeuronsGiveATokenTheBitsItHasAlone) {
  StagedOps ops(device());
  for (const DType dtype : {DType::kF16, DType::kQ4_0, DType::kQ6_K, DType::kFp8E4M3}) {
    for (const NeuronCase& test : kNeuronCases) {
      NeuronOperands in(dtype, test, 10);
      const Tensor together = RunNeurons(ops, test, in);
      const Tensor x = in.x, needs = in.needs;
      for (const int64_t t : {0, 9}) {
        in.x = x.Rows(t, 1), in.needs = needs.Rows(t, 1);
        const Tensor alone = RunNeurons(ops, test, in);
        for (const int32_t i : in.list.listed()) {
          EXPECT_EQ(std::bit_cast<uint32_t>(alone.at(0, i)),
                    std::bit_cast<uint32_t>(together.at(t, i)))
              << DTypeName(dtype) << " token=" << t << " neuron=" << i;
        }
      }
    }
  }
}

TEST_P(DeviceConformanceTest, NothingActiveLeavesEverything) {
  StagedOps ops(device());
  NeuronOperands in(DType::kF16, kNeuronCases[1], 2);
  in.list.n_active = 0;
  const Tensor before = RandomActivations(2, kNeurons, 7);
  ExpectSameBits(RunNeurons(ops, kNeuronCases[1], in), before, "neurons");
}

TEST_P(DeviceConformanceTest, AxpyRowsAgreesWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kDeviceWeightTypes) {
    for (const int64_t n_embd : RowLengths(dtype)) {
      for (const int64_t n_tokens : {1, 6}) {
        const Tensor w = RandomWeights(dtype, 150, n_embd, 1).Packed();
        const Tensor a = SparseActivations(n_tokens, 150, 2);
        const Tensor bias = n_tokens == 1 ? RandomActivations(1, n_embd, 3) : Tensor();
        double largest = 1;
        for (int64_t i = 0; i < 150; ++i) {
          for (const float value : w.Floats(i)) {
            largest = std::max<double>(largest, std::abs(value));
          }
        }
        ExpectNear(
            Axpy(ops, w, a, ActiveIds::All(), bias),
            Axpy(reference->ops(), w, a, ActiveIds::All(), bias),
            [&](int64_t t, int64_t) {
              double norm = 4;
              for (int64_t i = 0; i < 150; ++i) norm += std::abs(a.at(t, i)) * largest;
              return 30 * kRounding * norm;
            },
            Name(dtype, n_tokens, 150, n_embd));
      }
    }
  }
}

TEST_P(DeviceConformanceTest, AxpyRowsOfAListHasTheBitsOfAllAndOfATokenAlone) {
  StagedOps ops(device());
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_K, DType::kFp8E5M2}) {
    const Tensor w = RandomWeights(dtype, 700, 512, 4).Packed();
    const Tensor a = SparseActivations(6, 700, 5);
    const Tensor bias = RandomActivations(1, 512, 8);
    List list(700);
    ops.SelectActive(a.view(), list.get());
    const Tensor together = Axpy(ops, w, a, list.get(), bias);
    ExpectSameBits(Axpy(ops, w, a, ActiveIds::All(), bias), together, "all");
    for (const int64_t t : {0, 5}) {
      const Tensor alone = a.Rows(t, 1);
      List own(700);
      ops.SelectActive(alone.view(), own.get());
      ExpectSameBits(Axpy(ops, w, alone, own.get(), bias), together.Rows(t, 1),
                     std::string(DTypeName(dtype)));
    }
  }
}

TEST_P(DeviceConformanceTest, AxpyRowsTakesMoreTokensThanScratchHasRoomFor) {
  StagedOps ops(device());
  const Tensor w = RandomWeights(DType::kF16, 40, 64, 4);
  const Tensor a = SparseActivations(37, 40, 5);
  const Tensor together = Axpy(ops, w, a, ActiveIds::All(), Tensor());
  for (const int64_t t : {0, 31, 32, 36}) {
    ExpectSameBits(Axpy(ops, w, a.Rows(t, 1), ActiveIds::All(), Tensor()), together.Rows(t, 1),
                   "token");
  }
}

// As members of a stage have them, each with its part of a token's neurons.
Tensor SumOfParts(Ops& ops, const Tensor& w, const Tensor& a, std::vector<int64_t> cuts,
                  const Tensor& bias) {
  const int64_t n_tokens = a.view().n_rows, n_embd = w.view().n_cols;
  const auto n = static_cast<size_t>(n_tokens * n_embd);
  std::vector<double> sums(n, 0.0), last;
  const auto view = [&](std::vector<double>& of) { return SumsView{of.data(), n_tokens, n_embd}; };
  for (size_t part = cuts.size() - 1; part-- > 0;) {
    Tensor own(DType::kF32, n_tokens, cuts[part + 1] - cuts[part]);
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = cuts[part]; i < cuts[part + 1]; ++i) own.at(t, i - cuts[part]) = a.at(t, i);
    }
    last.assign(n, 7.5);  // old values that must go
    const Tensor rows = w.Rows(cuts[part], cuts[part + 1] - cuts[part]).Packed();
    ops.AxpySums(rows.view(), own.view(), ActiveIds::All(), view(last));
    if (part > 0) ops.AddSums(view(sums), view(last));
  }
  Tensor y = RandomActivations(n_tokens, n_embd, 98);
  ops.RoundSums(view(sums), view(last), bias.view(), y.view());
  return y;
}

TEST_P(DeviceConformanceTest, AnyCutAtChunksGivesTheSameBits) {
  StagedOps ops(device());
  constexpr int64_t kRows = 5 * kSumChunk + 17;
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_K, DType::kFp8E5M2}) {
    for (const int64_t n_tokens : {1, 5}) {
      const Tensor w = RandomWeights(dtype, kRows, 768, 4);
      const Tensor a = SparseActivations(n_tokens, kRows, 5);
      const Tensor bias = n_tokens == 1 ? RandomActivations(1, 768, 8) : Tensor();
      const Tensor whole = Axpy(ops, w.Packed(), a, ActiveIds::All(), bias);
      for (const std::vector<int64_t>& cuts :
           {std::vector<int64_t>{0, kRows},
            {0, kSumChunk, kRows},
            {0, 4 * kSumChunk, kRows},
            {0, 2 * kSumChunk, 3 * kSumChunk, 5 * kSumChunk, kRows}}) {
        ExpectSameBits(SumOfParts(ops, w, a, cuts, bias), whole,
                       std::string(DTypeName(dtype)) + " parts " + std::to_string(cuts.size() - 1));
      }
    }
  }
}

TEST_P(DeviceConformanceTest, AxpyRowsOfNothingLeavesTheBias) {
  StagedOps ops(device());
  const Tensor w = RandomWeights(DType::kF32, 8, 70, 11), bias = RandomActivations(1, 70, 12);
  List none(8);
  const Tensor y = Axpy(ops, w, RandomActivations(2, 8, 13), none.get(), bias);
  for (int64_t t = 0; t < 2; ++t) ExpectSameBits(y.Rows(t, 1), bias.Rows(0, 1), "bias");
}

}  // namespace
}  // namespace thermocline::kernels
