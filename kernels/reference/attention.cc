#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "kernels/device.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels::reference {
namespace {

void StoreRounded(const float* values, const KvPages& pages, std::byte* out) {
  for (int i = 0; i < pages.head_dim; ++i) {
    if (pages.dtype == DType::kF32) {
      std::memcpy(out + i * 4, values + i, 4);
    } else {
      const uint16_t bits = F32ToF16(values[i]);
      std::memcpy(out + i * 2, &bits, 2);
    }
  }
}

// One query head over positions 0 .. n_positions - 1 of its sequence.
void AttendHead(const float* q, std::span<const int32_t> page_ids, int64_t n_positions, int head_kv,
                const KvPages& pages, float scale, float* y) {
  std::vector<double> weights(static_cast<size_t>(n_positions));
  std::vector<float> row(static_cast<size_t>(pages.head_dim));
  for (int64_t p = 0; p < n_positions; ++p) {
    DequantizeRow(pages.dtype, pages.k + pages.offset_bytes(page_ids, p, head_kv), pages.head_dim,
                  row.data());
    double dot = 0;
    for (size_t i = 0; i < row.size(); ++i) dot += static_cast<double>(q[i]) * row[i];
    weights[static_cast<size_t>(p)] = dot * scale;
  }
  const double max = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - max);
  std::vector<double> sums(row.size(), 0.0);
  for (int64_t p = 0; p < n_positions; ++p) {
    DequantizeRow(pages.dtype, pages.v + pages.offset_bytes(page_ids, p, head_kv), pages.head_dim,
                  row.data());
    for (size_t i = 0; i < row.size(); ++i) sums[i] += weights[static_cast<size_t>(p)] * row[i];
  }
  for (size_t i = 0; i < row.size(); ++i) y[i] = static_cast<float>(sums[i] / total);
}

}  // namespace

void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
             const KvPages& pages) {
  for (const SequenceRows& sequence : sequences) {
    for (int t = 0; t < sequence.n_tokens; ++t) {
      const int64_t row = sequence.first_row + t, position = sequence.first_position + t;
      for (int head = 0; head < pages.n_head_kv; ++head) {
        const uint64_t offset = pages.offset_bytes(sequence.page_ids, position, head);
        StoreRounded(k.f32_row(row) + head * pages.head_dim, pages, pages.k + offset);
        StoreRounded(v.f32_row(row) + head * pages.head_dim, pages, pages.v + offset);
      }
    }
  }
}

void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
               float scale, TensorView y) {
  const int n_head = static_cast<int>(q.n_cols) / pages.head_dim;
  const int heads_per_kv = n_head / pages.n_head_kv;
  for (const SequenceRows& sequence : sequences) {
    for (int t = 0; t < sequence.n_tokens; ++t) {
      const int64_t row = sequence.first_row + t;
      for (int head = 0; head < n_head; ++head) {
        AttendHead(q.f32_row(row) + head * pages.head_dim, sequence.page_ids,
                   sequence.first_position + t + 1, head / heads_per_kv, pages, scale,
                   y.f32_row(row) + head * pages.head_dim);
      }
    }
  }
}

}  // namespace thermocline::kernels::reference
