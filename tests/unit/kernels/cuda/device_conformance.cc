#include "device_conformance.h"

#include <algorithm>
#include <numeric>

#include "../op_testing.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

using testing::Test;

std::string Name(DType dtype, int64_t n_tokens, int64_t n_rows, int64_t n_cols) {
  return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(n_tokens) +
         " rows=" + std::to_string(n_rows) + " cols=" + std::to_string(n_cols);
}

// Rows of whole units, of units and a part, shorter than a unit, and as awkward as the type allows.
std::vector<int64_t> RowLengths(DType dtype) {
  std::vector<int64_t> lengths = {512, 1280, 256};
  if (Traits(dtype).block_elems <= 32) lengths.push_back(864), lengths.push_back(96);
  if (IsFloat(dtype)) lengths.push_back(77), lengths.push_back(1023);
  return lengths;
}

// Sum of |row i of w| |x[t]|.
double Norm(const Tensor& w, int64_t i, const Tensor& x, int64_t t) {
  const std::vector<float> row = w.Floats(i);
  double norm = 1e-30;
  for (size_t c = 0; c < row.size(); ++c) {
    norm += std::abs(static_cast<double>(row[c]) * x.at(t, static_cast<int64_t>(c)));
  }
  return norm;
}

// A lane adds 16 products of each unit of 512, then 32 lanes meet in 5 steps. Packed rows round
// each scaled block thrice; a minimum is taken off sums of up to 16 times the weights' own.
double DotError(const Tensor& w) {
  const double n = static_cast<double>(w.view().n_cols);
  return (n / 32 + 32) * kRounding * (IsFloat(w.view().dtype) ? 1 : 24);
}

Tensor MatMul(Ops& ops, const Tensor& w, const Tensor& x, const Tensor& bias) {
  Tensor y(DType::kF32, x.view().n_rows, w.view().n_rows, 4);
  ops.MatMul(w.view(), x.view(), bias.view(), y.view());
  return y;
}

TEST_P(DeviceConformanceTest, EmbedGivesTheBitsOfTheReference) {
  StagedOps ops(device());
  const std::vector<int32_t> ids = {5, 0, 5, 2, 10};
  for (const DType dtype : kWeightTypes) {
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
  for (const DType dtype : kWeightTypes) {
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
  for (const DType dtype : kWeightTypes) {
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
  for (const DType dtype : kWeightTypes) {
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
    reference->ops().ZeroBelow(expected.view(), 0.5f);
    ops.ZeroBelow(y.view(), 0.5f);
    ExpectSameBits(y, expected, "zero_below");
  }
}

struct List {
  std::vector<int32_t> ids;
  int32_t n_active = 0;
  explicit List(int64_t n_ff) : ids(static_cast<size_t>(n_ff), -1) {}
  ActiveIds get() { return {ids.data(), &n_active, static_cast<int32_t>(ids.size())}; }
  std::vector<int32_t> listed() const { return {ids.begin(), ids.begin() + n_active}; }
};

// About 80 % zeros, some of them negative, and values so small that products underflow.
Tensor SparseActivations(int64_t n_tokens, int64_t n_ff, uint32_t seed) {
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

// ---- Neurons.

constexpr int64_t kNeurons = 61, kEmbd = 512;

struct NeuronCase {
  bool gated = true;
  bool activates_up = false;
  Activation kind = Activation::kRelu;
  enum { kAll, kByActivations, kByScores } needs = kAll;
  bool is_listed = true;
};

constexpr NeuronCase kNeuronCases[] = {
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

Tensor RunNeurons(Ops& ops, const NeuronCase& test, NeuronOperands& in) {
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

TEST_P(DeviceConformanceTest, NeuronsAgreeWithTheReferenceAndLeaveOtherColumns) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kWeightTypes) {
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
  for (const DType dtype : {DType::kF16, DType::kQ4_0, DType::kQ6_K}) {
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

// ---- Sums of neuron rows.

Tensor Axpy(Ops& ops, const Tensor& w, const Tensor& a, ActiveIds active, const Tensor& bias) {
  Tensor y = RandomActivations(a.view().n_rows, w.view().n_cols, 99);  // old values that must go
  ops.AxpyRows(w.view(), a.view(), active, bias.view(), y.view());
  return y;
}

TEST_P(DeviceConformanceTest, AxpyRowsAgreesWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const DType dtype : kWeightTypes) {
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
  for (const DType dtype : {DType::kF16, DType::kQ8_0, DType::kQ4_K}) {
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

TEST_P(DeviceConformanceTest, AxpyRowsOfNothingLeavesTheBias) {
  StagedOps ops(device());
  const Tensor w = RandomWeights(DType::kF32, 8, 70, 11), bias = RandomActivations(1, 70, 12);
  List none(8);
  const Tensor y = Axpy(ops, w, RandomActivations(2, 8, 13), none.get(), bias);
  for (int64_t t = 0; t < 2; ++t) ExpectSameBits(y.Rows(t, 1), bias.Rows(0, 1), "bias");
}

// ---- Attention.

struct Heads {
  int n_head, n_head_kv, head_dim;
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }
};

// Pages out of order, one sequence of n_stored positions in all of them.
struct Cache {
  std::vector<std::byte> k, v;
  std::vector<int32_t> page_ids;
  KvPages pages;

  Cache(Ops& ops, DType dtype, int page_tokens, int n_stored, const Heads& heads) {
    pages = {nullptr, nullptr, dtype, page_tokens, heads.n_head_kv, heads.head_dim};
    const int n_pages = (n_stored + page_tokens - 1) / page_tokens;
    k.resize(pages.page_bytes() * static_cast<uint64_t>(n_pages));
    v.resize(k.size());
    pages.k = k.data(), pages.v = v.data();
    for (int i = 0; i < n_pages; ++i) page_ids.push_back(n_pages - 1 - i);
    const int64_t n_cols = heads.n_head_kv * heads.head_dim;
    const Tensor keys = RandomActivations(n_stored, n_cols, 2);
    const Tensor values = RandomActivations(n_stored, n_cols, 3);
    const std::vector<SequenceRows> stored = {{0, n_stored, 0, page_ids}};
    ops.StoreKv(keys.view(), values.view(), stored, pages);
  }
};

Tensor Attend(Ops& ops, const Cache& cache, const Heads& heads, const Tensor& q,
              std::span<const SequenceRows> sequences) {
  Tensor y = RandomActivations(q.view().n_rows, q.view().n_cols, 4);
  ops.Attention(q.view(), sequences, cache.pages, heads.scale(), y.view());
  return y;
}

constexpr Heads kHeads[] = {{4, 2, 64}, {3, 1, 24}, {2, 2, 128}, {12, 1, 20}, {2, 1, 160}};

TEST_P(DeviceConformanceTest, AttentionAgreesWithTheReference) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  for (const Heads& heads : kHeads) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      const Cache cache(reference->ops(), dtype, 16, 80, heads);
      EXPECT_EQ(Cache(ops, dtype, 16, 80, heads).k, cache.k);
      EXPECT_EQ(Cache(ops, dtype, 16, 80, heads).v, cache.v);
      const std::vector<SequenceRows> sequences = {{0, 5, 70, cache.page_ids},
                                                   {5, 1, 3, cache.page_ids}};
      const Tensor q = RandomActivations(6, heads.n_head * heads.head_dim, 1);
      ExpectNear(
          Attend(ops, cache, heads, q, sequences),
          Attend(reference->ops(), cache, heads, q, sequences),
          [](int64_t, int64_t) { return 1e-5; }, "attention");
    }
  }
}

// Contexts of several chunks: one block for all of a row's, or one for each.
TEST_P(DeviceConformanceTest, AttentionGivesASequenceTheBitsItHasAlone) {
  StagedOps ops(device());
  const auto reference = MakeReferenceDevice();
  const Heads heads = {4, 2, 32};
  const Cache cache(ops, DType::kF16, 16, 700, heads);
  std::vector<SequenceRows> sequences = {{0, 5, 509, cache.page_ids}};
  int n_rows = 5;
  for (const int64_t position : {0, 255, 256, 699}) {
    sequences.push_back({n_rows++, 1, position, cache.page_ids});
  }
  const Tensor q = RandomActivations(n_rows, heads.n_head * heads.head_dim, 23);
  const Tensor together = Attend(ops, cache, heads, q, sequences);
  ExpectNear(
      together, Attend(reference->ops(), cache, heads, q, sequences),
      [](int64_t, int64_t) { return 1e-5; }, "long");
  Tensor alone(DType::kF32, n_rows, q.view().n_cols);
  for (const SequenceRows& rows : sequences) {
    for (int t = 0; t < rows.n_tokens; ++t) {
      const std::vector<SequenceRows> one = {
          {rows.first_row + t, 1, rows.first_position + t, cache.page_ids}};
      ops.Attention(q.view(), one, cache.pages, heads.scale(), alone.view());
    }
  }
  ExpectSameBits(together, alone, "alone");
}

TEST_P(DeviceConformanceTest, LargeScoresDoNotOverflow) {
  StagedOps ops(device());
  const Heads heads = {1, 1, 16};
  constexpr int kTokens = 300;
  for (const int loud : {0, 32, 255, 299}) {
    Cache cache(ops, DType::kF32, 512, kTokens, heads);
    Tensor k(DType::kF32, kTokens, 16), v = RandomActivations(kTokens, 16, 8);
    Tensor q(DType::kF32, 1, 16), y(DType::kF32, 1, 16);
    for (int t = 0; t < kTokens; ++t) k.at(t, 0) = t == loud ? 3e4f : -3e4f;
    q.at(0, 0) = 1.0f;
    const std::vector<SequenceRows> stored = {{0, kTokens, 0, cache.page_ids}};
    const std::vector<SequenceRows> last = {{0, 1, kTokens - 1, cache.page_ids}};
    ops.StoreKv(k.view(), v.view(), stored, cache.pages);
    ops.Attention(q.view(), last, cache.pages, 1.0f, y.view());
    for (int64_t c = 0; c < 16; ++c) EXPECT_FLOAT_EQ(y.at(0, c), v.at(loud, c)) << loud;
  }
}

TEST_P(DeviceConformanceTest, NoTokens) {
  StagedOps ops(device());
  const Tensor w = RandomWeights(DType::kQ4_0, 3, 32, 8).Packed(), none(DType::kF32, 0, 32);
  Tensor y(DType::kF32, 1, 32);
  y.at(0, 0) = 7;
  EXPECT_EQ(MatMul(ops, w, none, Tensor()).view().n_rows, 0);
  ops.Embed(w.view(), {}, y.view().Rows(0, 0));
  ops.Add(none.view(), none.view(), none.view());
  ops.RmsNorm(none.view(), y.view(), 1e-5f, none.view());
  ops.Attention(none.view(), {}, {nullptr, nullptr, DType::kF16, 4, 1, 16}, 1.0f, none.view());
  ops.StoreKv(none.view(), none.view(), {}, {nullptr, nullptr, DType::kF16, 4, 2, 16});
  EXPECT_EQ(y.at(0, 0), 7) << "a row beyond the batch was written";
}

// ---- The device itself.

TEST_P(DeviceConformanceTest, CopiesComeBackAndMarksPass) {
  EXPECT_FALSE(device().reads_host_memory());
  auto there = device().Allocate(4096), host = device().AllocateHost(4096);
  ASSERT_TRUE(there.ok() && host.ok());
  std::iota(reinterpret_cast<uint32_t*>(host->data()),
            reinterpret_cast<uint32_t*>(host->data()) + 1024, 5u);
  auto back = device().AllocateHost(4096);
  ASSERT_TRUE(back.ok());
  device().CopyToDevice(host->data(), there->data(), 4096);
  const WorkMark copied = device().Mark();
  device().CopyToHost(there->data(), back->data(), 4096);
  const WorkMark done = device().Mark();
  EXPECT_GT(done, copied);
  ASSERT_TRUE(device().Wait(copied).ok());
  ASSERT_TRUE(device().Wait(done).ok());
  EXPECT_TRUE(device().IsDone(copied));
  EXPECT_TRUE(device().IsDone(done));
  EXPECT_EQ(std::memcmp(back->data(), host->data(), 4096), 0);
  // More marks than there are events: the first is still known to be done.
  for (int i = 0; i < 200; ++i) (void)device().Mark();
  ASSERT_TRUE(device().Synchronize().ok());
  EXPECT_TRUE(device().IsDone(copied));
}

TEST_P(DeviceConformanceTest, NewMemoryIsZeroAndMemoryEnds) {
  auto there = device().Allocate(1000);
  ASSERT_TRUE(there.ok());
  std::vector<std::byte> back(1000, std::byte{1});
  device().CopyToHost(there->data(), back.data(), back.size());
  ASSERT_TRUE(device().Synchronize().ok());
  EXPECT_TRUE(std::ranges::all_of(back, [](std::byte b) { return b == std::byte{0}; }));
  const DeviceMemory memory = device().memory();
  EXPECT_GT(memory.free_bytes, 0u);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
  const auto refused = device().Allocate(memory.total_bytes + 1);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
}

TEST_P(DeviceConformanceTest, PackCopiesRowsAndNamesTheFirstThatIsNotFinite) {
  for (const DType dtype : kWeightTypes) {
    Tensor w = RandomWeights(dtype, 40, 512, 1);
    const Tensor packed = w.Packed();
    auto there = device().Allocate(w.view().bytes() + kLanesSlackBytes);
    ASSERT_TRUE(there.ok());
    TensorView to = packed.view();
    to.data = there->data();
    ASSERT_EQ(to.layout, device().PreferredLayout(dtype));
    EXPECT_EQ(device().Pack(w.view(), to), -1) << DTypeName(dtype);
    std::vector<std::byte> back(w.view().bytes());
    device().CopyToHost(to.data, back.data(), back.size());
    ASSERT_TRUE(device().Synchronize().ok());
    EXPECT_EQ(std::memcmp(back.data(), packed.view().data, back.size()), 0) << DTypeName(dtype);
    const int at = dtype == DType::kF32 ? 3 : dtype == DType::kQ6_K ? 209 : 1;
    for (const int64_t row : {31, 7}) {
      w.view().row(row)[at] = std::byte{0x7f};
      w.view().row(row)[at - 1] = std::byte{0xff};
    }
    EXPECT_EQ(device().Pack(w.view(), to), 7) << DTypeName(dtype);
  }
}

TEST_P(DeviceConformanceTest, CountsTheRowsOfActiveNeuronsOnce) {
  const auto cpu = Cpu();
  StagedOps staged(device());
  const NeuronCase test = {true, false, Activation::kRelu, NeuronCase::kAll, true};
  for (const int64_t n_tokens : {1, 3}) {
    NeuronOperands in(DType::kF16, test, n_tokens);
    const Tensor w = RandomWeights(DType::kF16, kNeurons, 768, 3);
    const auto run = [&](Ops& ops) {
      Tensor a = RunNeurons(ops, test, in);
      (void)Axpy(ops, w, a, in.list.get(), Tensor());
      List named(kNeurons);
      ops.SelectAtLeast(in.needs.view(), 0.5f, named.get());
    };
    const Traffic before = device().ops().traffic(), before_cpu = cpu->ops().traffic();
    run(staged);
    run(cpu->ops());
    const Traffic read = device().ops().traffic() - before;
    const Traffic expected = cpu->ops().traffic() - before_cpu;
    EXPECT_EQ(read.neuron_bytes, expected.neuron_bytes);
    EXPECT_EQ(read.weight_bytes, expected.weight_bytes);
    EXPECT_EQ(read.n_neurons, expected.n_neurons);
    EXPECT_EQ(read.n_neurons_active, expected.n_neurons_active);
    EXPECT_EQ(read.n_neurons_scored, expected.n_neurons_scored);
    EXPECT_EQ(read.n_neurons_named, expected.n_neurons_named);
  }
}

}  // namespace
}  // namespace thermocline::kernels
