#include <gtest/gtest.h>

#include <cmath>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

struct Shape {
  int64_t n_tokens, n_ff, n_embd;
};

std::vector<Shape> Shapes(DType dtype) {
  std::vector<Shape> shapes = {{1, 37, 256}, {2, 16, 512}, {5, 51, 256}, {35, 7, 768}};
  if (Traits(dtype).block_elems <= 32) shapes.push_back({3, 9, 352}), shapes.push_back({1, 9, 864});
  if (IsFloat(dtype)) shapes.push_back({1, 6, 77}), shapes.push_back({2, 6, 301});
  return shapes;
}

// Activations of a ReLU layer: about 80 % zeros, some of them negative, and values so small that
// products underflow.
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

Tensor Axpy(Device& device, const Tensor& w, const Tensor& a, ActiveIds active,
            const Tensor& bias) {
  Tensor y = RandomActivations(a.view().n_rows, w.view().n_cols, 99);  // old values that must go
  device.ops().AxpyRows(w.view(), a.view(), active, bias.view(), y.view());
  return y;
}

struct ActiveList {
  std::vector<int32_t> ids;
  int32_t n_active = 0;
  ActiveIds get() { return {ids.data(), &n_active, static_cast<int32_t>(ids.size())}; }
};

ActiveList Select(Device& device, const Tensor& a) {
  ActiveList list;
  list.ids.resize(static_cast<size_t>(a.view().n_cols));
  device.ops().SelectActive(a.view(), list.get());
  return list;
}

std::string Name(DType dtype, const Shape& shape) {
  return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(shape.n_tokens) +
         " n_ff=" + std::to_string(shape.n_ff) + " n_embd=" + std::to_string(shape.n_embd);
}

// Chains of at most n_ff multiply-adds: each product passes at most n_ff + 2 roundings (two each
// without a fused instruction), and may underflow.
double Bound(const Tensor& w, const Tensor& a, int64_t t, int64_t c) {
  double norm = 1.0;  // the bias, at most, and what underflows
  for (int64_t i = 0; i < w.view().n_rows; ++i) {
    norm += std::abs(a.at(t, i)) * std::abs(w.Floats(i)[static_cast<size_t>(c)]);
  }
  return static_cast<double>(2 * w.view().n_rows + 2) * kRounding * norm;
}

TEST(AxpyRowsTest, AgreesWithTheReference) {
  const auto cpu = Cpu();
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : {Shape{1, 21, 256}, Shape{3, 18, 512}}) {
        const Tensor w = RandomWeights(dtype, shape.n_ff, shape.n_embd, 1);
        const Tensor a = RandomActivations(shape.n_tokens, shape.n_ff, 2);
        const Tensor bias = shape.n_ff % 2 ? RandomActivations(1, shape.n_embd, 3) : Tensor();
        const Tensor expected = Axpy(*reference, w, a, ActiveIds::All(), bias);
        const Tensor y = Axpy(*cpu, w, a, ActiveIds::All(), bias);
        for (int64_t c = 0; c < shape.n_embd; c += 19) {
          for (int64_t t = 0; t < shape.n_tokens; ++t) {
            ASSERT_NEAR(y.at(t, c), expected.at(t, c), Bound(w, a, t, c) + kRounding * 4)
                << Name(dtype, shape) << " token=" << t << " col=" << c;
          }
        }
      }
    }
  });
}

TEST(AxpyRowsTest, PackedRowsGiveTheBitsOfTheFiles) {
  const auto cpu = Cpu();
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : Shapes(dtype)) {
        const Tensor w = RandomWeights(dtype, shape.n_ff, shape.n_embd, 13);
        const Tensor a = SparseActivations(shape.n_tokens, shape.n_ff, 14);
        const Tensor bias = RandomActivations(1, shape.n_embd, 15);
        ActiveList list = Select(*cpu, a);
        const Tensor expected = Axpy(*cpu, w, a, ActiveIds::All(), bias);
        ExpectSameBits(Axpy(*cpu, w.Packed(), a, ActiveIds::All(), bias), expected,
                       Name(dtype, shape) + " all");
        ExpectSameBits(Axpy(*cpu, w.Packed(), a, list.get(), bias), expected,
                       Name(dtype, shape) + " listed");
      }
    }
  });
}

TEST(AxpyRowsTest, ListOfNonzerosEqualsAllBitForBit) {
  const auto cpu = Cpu();
  const auto check = [](Device& device) {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : Shapes(dtype)) {
        const Tensor w = RandomWeights(dtype, shape.n_ff, shape.n_embd, 4);
        const Tensor a = SparseActivations(shape.n_tokens, shape.n_ff, 5);
        ActiveList list = Select(device, a);
        ExpectSameBits(Axpy(device, w, a, list.get(), Tensor()),
                       Axpy(device, w, a, ActiveIds::All(), Tensor()), Name(dtype, shape));
      }
    }
  };
  check(*MakeReferenceDevice());
  OnEachInstructionSet([&] { check(*cpu); });
}

TEST(AxpyRowsTest, ATokenAloneHasTheSameBits) {
  const auto cpu = Cpu();
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const Shape& shape : Shapes(dtype)) {
        const Tensor w = RandomWeights(dtype, shape.n_ff, shape.n_embd, 6);
        const Tensor a = SparseActivations(shape.n_tokens, shape.n_ff, 7);
        const Tensor bias = RandomActivations(1, shape.n_embd, 8);
        ActiveList list = Select(*cpu, a);
        const Tensor together = Axpy(*cpu, w, a, list.get(), bias);
        for (int64_t t = 0; t < shape.n_tokens; ++t) {
          const Tensor alone = a.Rows(t, 1);
          ActiveList own = Select(*cpu, alone);
          ExpectSameBits(Axpy(*cpu, w, alone, own.get(), bias), together.Rows(t, 1),
                         Name(dtype, shape));
        }
      }
    }
  });
}

TEST(AxpyRowsTest, ThreadsDoNotChangeABit) {
  for (const DType dtype : {DType::kF16, DType::kQ6_K}) {
    for (const int64_t n_tokens : {1, 6, 150}) {  // more than a block of tokens
      const Tensor w = RandomWeights(dtype, 67, 1536, 9).Packed();
      const Tensor a = SparseActivations(n_tokens, 67, 10);
      const Tensor one = Axpy(*Cpu(1), w, a, ActiveIds::All(), Tensor());
      for (const int n_threads : {2, 3, 5, 9}) {
        ExpectSameBits(Axpy(*Cpu(n_threads), w, a, ActiveIds::All(), Tensor()), one,
                       std::string(DTypeName(dtype)));
      }
    }
  }
}

// Of neurons [begin, end), as a member of a stage that holds them has them.
std::vector<double> SumsOf(Device& device, const Tensor& w, const Tensor& a, int64_t begin,
                           int64_t end, bool is_listed, bool is_packed) {
  Tensor own(DType::kF32, a.view().n_rows, end - begin);
  for (int64_t t = 0; t < a.view().n_rows; ++t) {
    for (int64_t i = begin; i < end; ++i) own.at(t, i - begin) = a.at(t, i);
  }
  const Tensor rows = w.Rows(begin, end - begin);
  std::vector<double> memory(static_cast<size_t>(a.view().n_rows * w.view().n_cols), 7.5);
  ActiveList list = Select(device, own);
  device.ops().AxpySums(is_packed ? rows.Packed().view() : rows.view(), own.view(),
                        is_listed ? list.get() : ActiveIds::All(),
                        {memory.data(), a.view().n_rows, w.view().n_cols});
  return memory;
}

// The sums of the parts that `cuts` make, added from the last to the first, rounded with the bias.
Tensor SumOfParts(Device& device, const Tensor& w, const Tensor& a, std::vector<int64_t> cuts,
                  const Tensor& bias, bool is_listed, bool is_packed) {
  const int64_t n_tokens = a.view().n_rows, n_embd = w.view().n_cols;
  Tensor y = RandomActivations(n_tokens, n_embd, 98);
  const auto view = [&](std::vector<double>& sums) {
    return SumsView{sums.data(), n_tokens, n_embd};
  };
  std::vector<double> sums(static_cast<size_t>(n_tokens * n_embd), 0.0), last;
  for (size_t part = cuts.size() - 1; part-- > 0;) {
    last = SumsOf(device, w, a, cuts[part], cuts[part + 1], is_listed, is_packed);
    if (part > 0) device.ops().AddSums(view(sums), view(last));
  }
  device.ops().RoundSums(view(sums), view(last), bias.view(), y.view());
  return y;
}

void ExpectAnyCutToGiveTheSameBits(Device& device, DType dtype, int64_t n_tokens, int64_t n_embd) {
  constexpr int64_t kNeurons = 6 * kSumChunk + 17;
  const Tensor w = RandomWeights(dtype, kNeurons, n_embd, 21);
  const Tensor a = SparseActivations(n_tokens, kNeurons, 22);
  const Tensor bias = n_tokens == 1 ? RandomActivations(1, n_embd, 23) : Tensor();
  const Tensor whole = Axpy(device, w.Packed(), a, ActiveIds::All(), bias);
  for (const std::vector<int64_t>& chunks :
       {std::vector<int64_t>{}, {1}, {5}, {6}, {2, 3}, {1, 2, 3, 4, 5, 6}}) {
    std::vector<int64_t> cuts = {0};
    for (const int64_t chunk : chunks) cuts.push_back(chunk * kSumChunk);
    cuts.push_back(kNeurons);
    for (const bool is_packed : {false, true}) {
      ExpectSameBits(SumOfParts(device, w, a, cuts, bias, chunks.size() % 2 == 0, is_packed), whole,
                     std::string(DTypeName(dtype)) + " tokens=" + std::to_string(n_tokens) +
                         " parts=" + std::to_string(cuts.size() - 1));
    }
  }
}

TEST(AxpyRowsTest, AnyCutAtChunksGivesTheSameBits) {
  const auto cpu = Cpu(2);
  OnEachInstructionSet([&] {
    for (const DType dtype : kWeightTypes) {
      for (const int64_t n_tokens : {1, 3}) {
        ExpectAnyCutToGiveTheSameBits(*cpu, dtype, n_tokens, 512);
      }
    }
    ExpectAnyCutToGiveTheSameBits(*cpu, DType::kF16, 2, 77);
  });
  ExpectAnyCutToGiveTheSameBits(*MakeReferenceDevice(), DType::kF32, 2, 40);
}

// Alone, wider than what a pass keeps in a cache.
TEST(AxpyRowsTest, WideRowsAreCutAsWell) {
  const auto cpu = Cpu();
  for (const DType dtype : {DType::kF16, DType::kQ4_0}) {
    ExpectAnyCutToGiveTheSameBits(*cpu, dtype, 1, 4096 + 608);
  }
}

// Whoever rounds early, or adds in F32, is found out.
TEST(AxpyRowsTest, ChunksAreAddedBeforeTheyAreRounded) {
  constexpr int64_t kNeurons = 2 * kSumChunk;
  Tensor w(DType::kF32, kNeurons, 32), a(DType::kF32, 1, kNeurons);
  for (int64_t i = 0; i < kNeurons; ++i) {
    a.at(0, i) = 1;
    for (int64_t c = 0; c < 32; ++c) w.at(i, c) = 0;
  }
  w.at(0, 5) = 0x1p24f, w.at(kSumChunk, 5) = 1, w.at(kSumChunk + 1, 6) = -0.0f;
  Tensor bias = RandomActivations(1, 32, 1);
  bias.at(0, 5) = 1;
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    EXPECT_EQ(Axpy(*device, w, a, ActiveIds::All(), bias).at(0, 5), 0x1p24f + 2);
    const std::vector<double> sums = SumsOf(*device, w, a, 0, kNeurons, true, false);
    EXPECT_EQ(sums[5], 0x1p24 + 1);
    EXPECT_FALSE(std::signbit(sums[6]));
  }
}

TEST(AxpyRowsTest, NothingActiveLeavesTheBias) {
  const Tensor w = RandomWeights(DType::kF32, 8, 70, 11);
  const Tensor bias = RandomActivations(1, 70, 12);
  int32_t id = 0, n_active = 0;
  for (const auto& device : {Cpu(2), MakeReferenceDevice()}) {
    for (const int64_t n_tokens : {0, 1, 2}) {
      const Tensor y =
          Axpy(*device, w, Tensor(DType::kF32, n_tokens, 8), {&id, &n_active, 1}, bias);
      for (int64_t t = 0; t < n_tokens; ++t) ExpectSameBits(y.Rows(t, 1), bias.Rows(0, 1), "bias");
    }
  }
}

TEST(SelectActiveTest, ListsTheColumnsThatAreNotZeroSomewhere) {
  const auto cpu = Cpu();
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const int64_t n_ff : {1, 15, 16, 33, 200}) {
      for (const int64_t n_tokens : {0, 1, 3}) {
        const Tensor a = SparseActivations(n_tokens, n_ff, 13);
        ActiveList mine = Select(*cpu, a), expected = Select(*reference, a);
        ASSERT_EQ(mine.n_active, expected.n_active) << n_ff;
        mine.ids.resize(static_cast<size_t>(mine.n_active));
        expected.ids.resize(static_cast<size_t>(mine.n_active));
        EXPECT_EQ(mine.ids, expected.ids);
      }
    }
  });
}

TEST(SelectActiveTest, ThreadsListTheSameIdsInTheSameOrder) {
  for (const int64_t n_ff : {4096, 5001}) {
    const Tensor a = SparseActivations(17, n_ff, 17);
    const ActiveList one = Select(*Cpu(1), a);
    ASSERT_GT(one.n_active, n_ff / 2);
    for (const int n_threads : {2, 3, 5}) {
      const ActiveList many = Select(*Cpu(n_threads), a);
      ASSERT_EQ(many.n_active, one.n_active) << "threads=" << n_threads;
      for (int32_t i = 0; i < one.n_active; ++i) {
        ASSERT_EQ(many.ids[static_cast<size_t>(i)], one.ids[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(SelectActiveTest, NegativeZeroIsZeroAndTheSmallestFloatIsNot) {
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    Tensor a(DType::kF32, 2, 4);
    a.at(0, 1) = -0.0f;
    a.at(1, 2) = 0x1p-149f;
    ActiveList list = Select(*device, a);
    ASSERT_EQ(list.n_active, 1);
    EXPECT_EQ(list.ids[0], 2);
  }
}

}  // namespace
}  // namespace thermocline::kernels
