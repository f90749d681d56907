// Pages of keys and values, and attention over them.
#include "conformance_operands.h"
#include "device_conformance.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

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

}  // namespace
}  // namespace thermocline::kernels
