#include <gtest/gtest.h>

#include <algorithm>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

struct Heads {
  int n_head, n_head_kv, head_dim;
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }
};

// The pages of one layer, filled through StoreKv, and where each sequence's pages lie.
class Cache {
 public:
  Cache(DType dtype, int page_tokens, int n_pages, const Heads& heads) {
    pages_ = {nullptr, nullptr, dtype, page_tokens, heads.n_head_kv, heads.head_dim};
    k_.resize(pages_.page_bytes() * static_cast<uint64_t>(n_pages));
    v_.resize(k_.size());
    pages_.k = k_.data();
    pages_.v = v_.data();
  }
  const KvPages& pages() const { return pages_; }
  const std::vector<std::byte>& k() const { return k_; }

 private:
  std::vector<std::byte> k_, v_;
  KvPages pages_;
};

// Pages out of order, as after some sequences have come and gone.
std::vector<int32_t> ScatteredPages(int n, int first, int step) {
  std::vector<int32_t> ids;
  for (int i = 0; i < n; ++i) ids.push_back(first + (n - 1 - i) * step);
  return ids;
}

// A batch of two sequences: a prefill chunk of 5 tokens from position 70 and one decode token at
// position 3, with everything before them already stored.
struct Batch {
  Heads heads;
  Cache cache;
  std::vector<int32_t> pages_a, pages_b;
  Tensor q;
  std::vector<SequenceRows> sequences;
};

constexpr int kChunk = 5;
constexpr int64_t kFirstA = 70, kFirstB = 3;

Batch MakeBatch(Device& device, DType dtype, int page_tokens, const Heads& heads) {
  const int n_pages = 80 / page_tokens + 1;
  Batch batch = {heads,
                 Cache(dtype, page_tokens, 2 * n_pages, heads),
                 ScatteredPages(n_pages, 0, 2),
                 ScatteredPages(n_pages, 1, 2),
                 RandomActivations(kChunk + 1, heads.n_head * heads.head_dim, 1),
                 {}};
  const int64_t kv_cols = heads.n_head_kv * heads.head_dim;
  const int n_a = static_cast<int>(kFirstA) + kChunk, n_b = static_cast<int>(kFirstB) + 1;
  const Tensor k = RandomActivations(n_a + n_b, kv_cols, 2),
               v = RandomActivations(n_a + n_b, kv_cols, 3);
  const std::vector<SequenceRows> stored = {{0, n_a, 0, batch.pages_a},
                                            {n_a, n_b, 0, batch.pages_b}};
  device.ops().StoreKv(k.view(), v.view(), stored, batch.cache.pages());
  batch.sequences = {{0, kChunk, kFirstA, batch.pages_a}, {kChunk, 1, kFirstB, batch.pages_b}};
  return batch;
}

Tensor Attend(Device& device, const Batch& batch, std::span<const SequenceRows> sequences) {
  Tensor y = RandomActivations(batch.q.view().n_rows, batch.q.view().n_cols, 4);
  device.ops().Attention(batch.q.view(), sequences, batch.cache.pages(), batch.heads.scale(),
                         y.view());
  return y;
}

constexpr Heads kHeads[] = {{4, 2, 64}, {3, 1, 24}, {2, 2, 128}, {8, 2, 20}};

TEST(AttentionTest, AgreesWithTheReference) {
  const auto cpu = Cpu(2);
  const auto reference = MakeReferenceDevice();
  OnEachInstructionSet([&] {
    for (const Heads& heads : kHeads) {
      for (const DType dtype : {DType::kF32, DType::kF16}) {
        for (const int page_tokens : {1, 16, 80}) {
          const Batch batch = MakeBatch(*reference, dtype, page_tokens, heads);
          const Tensor expected = Attend(*reference, batch, batch.sequences);
          // A weighted mean of values of size about 1; the weights are off by the scores'
          // roundings.
          ExpectNear(
              Attend(*cpu, batch, batch.sequences), expected, [](int64_t, int64_t) { return 1e-5; },
              "attention");
        }
      }
    }
  });
}

TEST(AttentionTest, ATokenAloneHasTheSameBitsOnAnyThreads) {
  OnEachInstructionSet([&] {
    for (const Heads& heads : kHeads) {
      const auto one = Cpu(1);
      const Batch batch = MakeBatch(*one, DType::kF16, 16, heads);
      const Tensor together = Attend(*one, batch, batch.sequences);
      for (const int n_threads : {2, 3, 5}) {
        ExpectSameBits(Attend(*Cpu(n_threads), batch, batch.sequences), together, "threads");
      }
      for (int t = 0; t < kChunk; ++t) {
        const std::vector<SequenceRows> alone = {{t, 1, kFirstA + t, batch.pages_a}};
        const Tensor y = Attend(*one, batch, alone);
        ExpectSameBits(y.Rows(t, 1), together.Rows(t, 1), "alone");
      }
    }
  });
}

// Decoding sequences of unlike lengths beside a prompt, so that threads share sequences and tokens.
TEST(AttentionTest, ASequenceHasTheSameBitsInAnyBatchOnAnyThreads) {
  const Heads heads = {6, 2, 32};
  constexpr int kPageTokens = 16, kPages = 64;
  constexpr int kPromptTokens = 40;
  const auto one = Cpu(1);
  Cache cache(DType::kF16, kPageTokens, kPages, heads);
  const std::vector<int32_t> page_ids = ScatteredPages(kPages, 0, 1);
  const int n_stored = kPages * kPageTokens;
  const std::vector<SequenceRows> stored = {{0, n_stored, 0, page_ids}};
  const Tensor k = RandomActivations(n_stored, 64, 21), v = RandomActivations(n_stored, 64, 22);
  one->ops().StoreKv(k.view(), v.view(), stored, cache.pages());
  std::vector<SequenceRows> sequences = {{0, kPromptTokens, 100, page_ids}};
  int n_rows = kPromptTokens;
  for (const int64_t position : {0, 1023, 5, 300, 17, 64, 511}) {
    sequences.push_back({n_rows++, 1, position, page_ids});
  }
  const Tensor q = RandomActivations(n_rows, heads.n_head * heads.head_dim, 23);
  Tensor alone(DType::kF32, n_rows, q.view().n_cols);
  for (const SequenceRows& sequence : sequences) {
    one->ops().Attention(q.view(), std::span(&sequence, 1), cache.pages(), heads.scale(),
                         alone.view());
  }
  for (const int n_threads : {1, 2, 3, 7}) {
    Tensor together(DType::kF32, n_rows, q.view().n_cols);
    Cpu(n_threads)->ops().Attention(q.view(), sequences, cache.pages(), heads.scale(),
                                    together.view());
    ExpectSameBits(together, alone, "threads=" + std::to_string(n_threads));
  }
}

TEST(AttentionTest, StoredPagesAreTheSameBytesOnBothDevices) {
  const Heads heads = {4, 3, 20};
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    const Batch a = MakeBatch(*Cpu(3), dtype, 16, heads);
    const Batch b = MakeBatch(*MakeReferenceDevice(), dtype, 16, heads);
    EXPECT_EQ(a.cache.k(), b.cache.k());
  }
}

TEST(AttentionTest, TheFirstTokenSeesItselfOnly) {
  const Heads heads = {2, 1, 16};
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    Cache cache(DType::kF32, 4, 1, heads);
    const std::vector<int32_t> page_ids = {0};
    const std::vector<SequenceRows> sequences = {{0, 1, 0, page_ids}};
    const Tensor k = RandomActivations(1, 16, 5), v = RandomActivations(1, 16, 6);
    const Tensor q = RandomActivations(1, 32, 7);
    Tensor y(DType::kF32, 1, 32);
    device->ops().StoreKv(k.view(), v.view(), sequences, cache.pages());
    device->ops().Attention(q.view(), sequences, cache.pages(), 1.0f, y.view());
    for (int64_t c = 0; c < 32; ++c) EXPECT_FLOAT_EQ(y.at(0, c), v.at(0, c % 16));
  }
}

// One key far above the others takes all the weight, wherever it lies among the blocks.
TEST(AttentionTest, LargeScoresDoNotOverflow) {
  const Heads heads = {1, 1, 16};
  constexpr int kTokens = 200;
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    for (const int loud : {0, 63, 64, 130, 199}) {
      Cache cache(DType::kF32, 256, 1, heads);
      const std::vector<int32_t> page_ids = {0};
      Tensor k(DType::kF32, kTokens, 16), v = RandomActivations(kTokens, 16, 8);
      Tensor q(DType::kF32, 1, 16), y(DType::kF32, 1, 16);
      for (int t = 0; t < kTokens; ++t) k.at(t, 0) = t == loud ? 3e4f : -3e4f;
      q.at(0, 0) = 1.0f;
      const std::vector<SequenceRows> stored = {{0, kTokens, 0, page_ids}};
      const std::vector<SequenceRows> last = {{0, 1, kTokens - 1, page_ids}};
      device->ops().StoreKv(k.view(), v.view(), stored, cache.pages());
      device->ops().Attention(q.view(), last, cache.pages(), 1.0f, y.view());
      for (int64_t c = 0; c < 16; ++c) EXPECT_FLOAT_EQ(y.at(0, c), v.at(loud, c)) << loud;
    }
  }
}

TEST(AttentionTest, NoSequences) {
  const Heads heads = {1, 1, 16};
  const Cache cache(DType::kF16, 4, 1, heads);
  const Tensor empty(DType::kF32, 0, 16);
  for (const auto& device : {Cpu(2), MakeReferenceDevice()}) {
    device->ops().StoreKv(empty.view(), empty.view(), {}, cache.pages());
    device->ops().Attention(empty.view(), {}, cache.pages(), 1.0f, empty.view());
  }
  EXPECT_TRUE(std::ranges::all_of(cache.k(), [](std::byte b) { return b == std::byte{0}; }));
}

}  // namespace
}  // namespace thermocline::kernels
