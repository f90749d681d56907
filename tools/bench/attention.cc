// Attention of one token per sequence over contexts of several lengths.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/half.h"
#include "base/str.h"
#include "tools/bench/bench_box.h"

namespace thermocline::tools {
namespace {

constexpr int kHeadDim = 128;
constexpr int kHeads = 16;
constexpr int kKvHeads = 8;
constexpr int kPageTokens = 16;

// Windows of the context, RingBytes() together so that each comes from memory; small numbers.
struct Cache {
  Buffer memory;
  kernels::KvPages pages;
  int64_t n_windows = 0;
  int64_t window_pages = 0;
  std::vector<int32_t> page_ids;

  std::span<const int32_t> Window(int64_t i) const {
    return std::span(page_ids).subspan(static_cast<size_t>(i % n_windows * window_pages),
                                       static_cast<size_t>(window_pages));
  }
};

void FillSmall(DType dtype, std::byte* data, uint64_t n_bytes) {
  constexpr float kSmall = 0.01f;
  if (dtype == DType::kF16) {
    std::fill_n(reinterpret_cast<uint16_t*>(data), n_bytes / 2, F32ToF16(kSmall));
  } else {
    std::fill_n(reinterpret_cast<float*>(data), n_bytes / 4, kSmall);
  }
}

Result<Cache> MakeCache(kernels::Device& device, DType dtype, int64_t n_ctx) {
  Cache cache;
  cache.pages = {nullptr, nullptr, dtype, kPageTokens, kKvHeads, kHeadDim};
  cache.window_pages = static_cast<int64_t>(
      DivCeil(static_cast<uint64_t>(n_ctx), static_cast<uint64_t>(kPageTokens)));
  const uint64_t page_bytes = cache.pages.page_bytes();
  const uint64_t window_bytes = 2 * page_bytes * static_cast<uint64_t>(cache.window_pages);
  cache.n_windows = static_cast<int64_t>(DivCeil(RingBytes(), window_bytes));
  const auto n_pages = static_cast<uint64_t>(cache.n_windows * cache.window_pages);
  TC_ASSIGN_OR_RETURN(cache.memory, device.Allocate(2 * n_pages * page_bytes));
  FillSmall(dtype, cache.memory.data(), cache.memory.size());
  cache.pages.k = cache.memory.data();
  cache.pages.v = cache.memory.data() + n_pages * page_bytes;
  cache.page_ids.resize(n_pages);
  std::iota(cache.page_ids.begin(), cache.page_ids.end(), 0);
  return cache;
}

Status Run(BenchBox& box, benchmark::State& state, DType dtype, int64_t n_ctx, int n_sequences) {
  TC_ASSIGN_OR_RETURN(const Cache cache, MakeCache(box.device(), dtype, n_ctx));
  FloatMatrix q(n_sequences, kHeads * kHeadDim, 1), y(n_sequences, kHeads * kHeadDim, 2);
  const float scale = 1.0f / std::sqrt(static_cast<float>(kHeadDim));
  // q k^T and the weighted sum of v.
  const double flops = 4.0 * static_cast<double>(n_sequences * n_ctx * kHeads * kHeadDim);
  int64_t window = 0;
  std::vector<kernels::SequenceRows> rows(static_cast<size_t>(n_sequences));
  box.Measure(state, {flops, 0}, [&](kernels::Ops& ops) {
    for (int i = 0; i < n_sequences; ++i) {
      rows[static_cast<size_t>(i)] = {i, 1, n_ctx - 1, cache.Window(window++)};
    }
    ops.Attention(q.view(), rows, cache.pages, scale, y.view());
  });
  return OkStatus();
}

}  // namespace

void RegisterAttention(BenchBox* box) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    const auto add = [&](int64_t n_ctx, int n_sequences) {
      box->Register(Str("Attention/", DTypeName(dtype), "/ctx:", n_ctx, "/sequences:", n_sequences),
                    [=](BenchBox& b, benchmark::State& state) {
                      return Run(b, state, dtype, n_ctx, n_sequences);
                    });
    };
    for (const int64_t n_ctx : {256, 2048, 16384}) add(n_ctx, 1);
    add(256, 16);
  }
}

}  // namespace thermocline::tools
