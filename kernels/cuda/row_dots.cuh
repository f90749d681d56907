// Rows of weights times tokens: products of whole matrices, and of the neurons of a list.
//
// A warp takes kRows rows and up to kTokens tokens. Each lane adds its 16 products of a unit to its
// own sum, unit by unit; then the lanes' sums meet in one fixed tree. So a result depends on its
// row and its token only, never on how many others share the call. The next unit of the rows is on
// its way while this one is used: 2 rows x 2 units x 1 KiB (F16) per warp, with 16 warps on a
// multiprocessor 64 KiB, beyond the 36 GB/s per multiprocessor x 0.7 us = 25 KiB that keep an
// H200's memory busy. A batch of kTokens reads the weights once; beyond that, blocks of the same
// rows run side by side and find them in the L2 cache.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/rows.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kDotRows = 2;
inline constexpr int kDotWarps = 4;
inline constexpr int kDotTokens = 8;

// A lane's 16 activations of a unit as floats.
template <typename Unit>
TC_DEVICE void LoadFloats(const float* x_unit, int lane, float (&x)[kLaneElems]) {
  TC_UNROLL for (int k = 0; k < kQuads; ++k) {
    const Dwords<4> quad = Load16(x_unit + Unit::QuadColumn(lane, k));
    TC_UNROLL for (int i = 0; i < 4; ++i) x[4 * k + i] = BitsToFloat(quad.v[i]);
  }
}
template <typename Unit>
TC_DEVICE void LoadFloatsPart(const float* x_unit, int n_elems, int lane, float (&x)[kLaneElems]) {
  TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
    const int column = Unit::QuadColumn(lane, k / 4) + k % 4;
    x[k] = column < n_elems ? x_unit[column] : 0.0f;
  }
}

// One unit of kRows rows times tokens t0 .. t0 + n_tokens - 1.
template <DType kType, int kTokens>
struct UnitStep {
  using Unit = typename UnitOf<kType>::Type;
  const RowDotsJob& job;
  int64_t t0;
  int n_tokens;
  int lane;

  TC_DEVICE void Add(const Unit (&rows)[kDotRows], int64_t unit, int n_elems, bool is_fast,
                     float (&sums)[kDotRows][kTokens]) const {
    if constexpr (!MeetsBytes(kType)) {
      float w[kDotRows][kLaneElems];
      TC_UNROLL for (int r = 0; r < kDotRows; ++r) rows[r].Decode(lane, w[r]);
      TC_UNROLL for (int t = 0; t < kTokens; ++t) {
        if (t < n_tokens) AddToken(w, Floats(t) + unit * kUnitElems, n_elems, is_fast, t, sums);
      }
    } else {
      TC_UNROLL for (int t = 0; t < kTokens; ++t) {
        if (t >= n_tokens) continue;
        const ByteQuads x = Unit::LoadBytes(
            job.x_bytes.data + (t0 + t) * job.x_bytes.row_bytes + unit * kByteUnitBytes, lane);
        TC_UNROLL for (int r = 0; r < kDotRows; ++r) sums[r][t] = rows[r].Dot(lane, x, sums[r][t]);
      }
    }
  }

 private:
  TC_DEVICE const float* Floats(int t) const {
    return reinterpret_cast<const float*>(job.x.data + (t0 + t) * job.x.row_stride_bytes);
  }
  TC_DEVICE void AddToken(const float (&w)[kDotRows][kLaneElems], const float* x_unit, int n_elems,
                          bool is_fast, int t, float (&sums)[kDotRows][kTokens]) const {
    float x[kLaneElems];
    if (is_fast) {
      LoadFloats<Unit>(x_unit, lane, x);
    } else {
      LoadFloatsPart<Unit>(x_unit, n_elems, lane, x);
    }
    TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
      TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
        sums[r][t] = Fma(w[r][k], x[k], sums[r][t]);
      }
    }
  }
};

// The lanes' sums of kDotRows rows with each token.
template <DType kType, int kTokens>
TC_DEVICE void SumRows(const UnitStep<kType, kTokens>& step, const std::byte* (&rows)[kDotRows],
                       bool is_fast, float (&sums)[kDotRows][kTokens]) {
  using Unit = typename UnitOf<kType>::Type;
  const int64_t n_cols = step.job.w.n_cols, n_whole = n_cols / kUnitElems;
  int64_t unit = 0;
  if (is_fast && n_whole > 0) {
    Unit next[kDotRows];
    TC_UNROLL for (int r = 0; r < kDotRows; ++r) next[r] = Unit::Load(rows[r], step.lane);
    for (; unit < n_whole; ++unit) {
      Unit packets[kDotRows];
      const int64_t ahead = Min(unit + 1, n_whole - 1) * kUnitBytes<kType>;
      TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
        packets[r] = next[r];
        next[r] = Unit::Load(rows[r] + ahead, step.lane);
      }
      step.Add(packets, unit, kUnitElems, true, sums);
    }
  }
  for (; unit * kUnitElems < n_cols; ++unit) {
    const int n_elems = static_cast<int>(Min(kUnitElems, n_cols - unit * kUnitElems));
    Unit packets[kDotRows];
    TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
      packets[r] = Unit::LoadPart(rows[r] + unit * kUnitBytes<kType>, n_elems, step.lane);
    }
    step.Add(packets, unit, n_elems, false, sums);
  }
}

TC_DEVICE bool Needs(const NeuronNeeds& needs, int64_t t, int64_t i) {
  if (needs.activations.data != nullptr) return F32Row(needs.activations, t)[i] != 0.0f;
  return needs.scores.data == nullptr || F32Row(needs.scores, t)[i] >= needs.threshold;
}

// Block (b % n_groups, b / n_groups): a group of tokens, kDotWarps * kDotRows places of the list.
template <DType kType, int kTokens>
TC_KERNEL RowDotsKernel(RowDotsJob job, int n_groups, bool is_fast) {
  const int64_t t0 = static_cast<int64_t>(BlockIndex().x % n_groups) * kTokens;
  const int64_t first =
      (static_cast<int64_t>(BlockIndex().x / n_groups) * kDotWarps + Warp()) * kDotRows;
  const int64_t n_listed = job.active.ids == nullptr ? job.w.n_rows : *job.active.n_active;
  if (first >= n_listed) return;
  const int n_tokens = static_cast<int>(Min(kTokens, job.out.n_rows - t0));
  const int lane = Lane();

  int64_t ids[kDotRows];
  const std::byte* rows[kDotRows];
  TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
    const int64_t place = Min(first + r, n_listed - 1);  // the last row again, where none is left
    ids[r] = job.active.ids == nullptr ? place : job.active.ids[place];
    rows[r] = job.w.data + ids[r] * job.w.row_stride_bytes;
  }
  // Lane r * kTokens + t looks after that result.
  static_assert(kDotRows * kTokens <= kWarp);
  const int my_row = lane / kTokens, my_token = lane % kTokens;
  const bool is_mine = my_row < kDotRows && my_token < n_tokens && first + my_row < n_listed;
  const int64_t my_id = my_row == 0 ? ids[0] : ids[kDotRows - 1];
  const bool needs = is_mine && Needs(job.needs, t0 + my_token, my_id);
  const uint32_t needed = Ballot(needs);

  // A row that no token needs is not read: one that is stands in for it.
  constexpr uint32_t kOfRow = (1u << kTokens) - 1;
  const std::byte* wanted = rows[0];
  TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
    if ((needed >> (r * kTokens) & kOfRow) != 0) wanted = rows[r];
  }
  TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
    if ((needed >> (r * kTokens) & kOfRow) == 0) rows[r] = wanted;
  }
  float sums[kDotRows][kTokens] = {};
  if (needed != 0) {
    SumRows<kType, kTokens>({job, t0, n_tokens, lane}, rows, is_fast, sums);
  }
  float mine = 0;
  TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
    TC_UNROLL for (int t = 0; t < kTokens; ++t) {
      if (t >= n_tokens) continue;
      const float sum = WarpSum(sums[r][t]);
      if (lane == r * kTokens + t) mine = sum;
    }
  }
  if (is_mine) {
    float value = 0;
    if (needs) {
      value = job.bias.data == nullptr ? mine : mine + F32Row(job.bias, 0)[my_id];
      if (job.is_activated) value = Activated(job.kind, value);
      if (job.needs.activations.data != nullptr) {
        value = F32Row(job.needs.activations, t0 + my_token)[my_id] * value;
      }
    }
    F32Row(job.out, t0 + my_token)[my_id] = value;
  }
  if (lane == 0 && job.sums != nullptr && t0 == 0) {
    uint64_t n_read = 0;
    TC_UNROLL for (int r = 0; r < kDotRows; ++r) {
      n_read += (needed >> (r * kTokens) & kOfRow) != 0;
    }
    AtomicAdd(&job.sums->neuron_bytes, n_read * job.row_bytes);
  }
}

template <DType kType, int kTokens>
void LaunchRowDots(void* stream, const RowDotsJob& job) {
  const int64_t n_rows = job.active.ids == nullptr ? job.w.n_rows : job.active.capacity;
  const int64_t n_blocks = (n_rows + kDotWarps * kDotRows - 1) / (kDotWarps * kDotRows);
  const int64_t n_groups = (job.out.n_rows + kTokens - 1) / kTokens;
  const bool is_x_aligned = MeetsBytes(kType) || HasAlignedRows<DType::kF32>(job.x);
  Launch(RowDotsKernel<kType, kTokens>, {n_blocks * n_groups}, kDotWarps * kWarp, stream, job,
         static_cast<int>(n_groups), is_x_aligned && HasAlignedRows<kType>(job.w));
}

void RowDots(void* stream, const RowDotsJob& job) {
  ForType(job.w.dtype, [&]<DType kType>() {
    if (job.out.n_rows == 1) {
      LaunchRowDots<kType, 1>(stream, job);
    } else {
      LaunchRowDots<kType, kDotTokens>(stream, job);
    }
  });
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
