#include <cstring>

#include "base/half.h"
#include "kernels/cpu/ops.h"

namespace thermocline::kernels::cpu {
namespace {

void StoreHead(const float* values, const KvPages& pages, std::byte* out) {
  const auto n = static_cast<size_t>(pages.head_dim);
  if (pages.dtype == DType::kF32) {
    std::memcpy(out, values, n * sizeof(float));
    return;
  }
  for (size_t i = 0; i < n; ++i) {
    const uint16_t bits = F32ToF16(values[i]);
    std::memcpy(out + i * sizeof(bits), &bits, sizeof(bits));
  }
}

}  // namespace

void StoreKv(CpuContext& context, TensorView k, TensorView v,
             std::span<const SequenceRows> sequences, const KvPages& pages) {
  DCHECK(pages.dtype == DType::kF32 || pages.dtype == DType::kF16);
  for (const SequenceRows& sequence : sequences) {
    ForParts(context, sequence.n_tokens, 1, MinItems(k.n_cols),
             [&](int64_t begin, int64_t end, int) {
               for (int64_t t = begin; t < end; ++t) {
                 const int64_t row = sequence.first_row + t, position = sequence.first_position + t;
                 for (int head = 0; head < pages.n_head_kv; ++head) {
                   const uint64_t offset = pages.offset_bytes(sequence.page_ids, position, head);
                   StoreHead(k.f32_row(row) + head * pages.head_dim, pages, pages.k + offset);
                   StoreHead(v.f32_row(row) + head * pages.head_dim, pages, pages.v + offset);
                 }
               }
             });
  }
}

}  // namespace thermocline::kernels::cpu
