// Ops whose elements know nothing of one another, and the rounding of activations to bytes.
//
// Bound by launches at decode (tens of KiB) and by memory in prefill: a thread takes one element of
// a row, neighbours in a warp neighbours in memory.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/rows.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kElementThreads = 256;

// Blocks (columns, rows) of one element per thread.
inline Grid ElementGrid(const TensorView& y) {
  return {(y.n_cols + kElementThreads - 1) / kElementThreads, y.n_rows};
}
TC_DEVICE int64_t MyColumn() {
  return static_cast<int64_t>(BlockIndex().x) * kElementThreads + ThreadIndex();
}

TC_KERNEL AddKernel(TensorView a, TensorView b, TensorView y) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c < y.n_cols) F32Row(y, t)[c] = F32Row(a, t)[c] + F32Row(b, t)[c];
}

TC_KERNEL CopyKernel(TensorView x, TensorView y) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c < y.n_cols) F32Row(y, t)[c] = F32Row(x, t)[c];
}

TC_KERNEL AddSumsKernel(SumsView sums, SumsView part) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c < sums.n_cols) sums.data[t * sums.n_cols + c] += part.data[t * sums.n_cols + c];
}

TC_KERNEL RoundSumsKernel(SumsView sums, SumsView part, TensorView bias, TensorView y) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c >= y.n_cols) return;
  double sum = sums.data[t * sums.n_cols + c];
  if (part.data != nullptr) sum += part.data[t * sums.n_cols + c];
  if (bias.data != nullptr) sum += F32Row(bias, 0)[c];
  F32Row(y, t)[c] = static_cast<float>(sum);
}

TC_KERNEL ActivateKernel(Activation kind, TensorView gate, TensorView up, TensorView y) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c >= y.n_cols) return;
  const float value = Activated(kind, F32Row(gate, t)[c]);
  F32Row(y, t)[c] = up.data == nullptr ? value : value * F32Row(up, t)[c];
}

TC_KERNEL ZeroBelowKernel(TensorView a, float threshold) {
  const int64_t c = MyColumn(), t = BlockIndex().y;
  if (c >= a.n_cols) return;
  float* const value = F32Row(a, t) + c;
  if ((*value < 0 ? -*value : *value) < threshold) *value = 0;
}

// A warp per unit of a row: block (units in groups of kEmbedWarps, token).
inline constexpr int kEmbedWarps = 4;

template <DType kType>
TC_KERNEL EmbedKernel(TensorView table, const int32_t* ids, TensorView y, bool is_aligned) {
  using Unit = typename UnitOf<kType>::Type;
  const int64_t unit = static_cast<int64_t>(BlockIndex().x) * kEmbedWarps + Warp();
  const int64_t t = BlockIndex().y, first = unit * kUnitElems;
  if (first >= y.n_cols) return;
  const int n_elems = static_cast<int>(Min(kUnitElems, y.n_cols - first));
  const std::byte* const from =
      table.data + ids[t] * table.row_stride_bytes + unit * kUnitBytes<kType>;
  const Unit packet = is_aligned && n_elems == kUnitElems ? Unit::Load(from, Lane())
                                                          : Unit::LoadPart(from, n_elems, Lane());
  float w[kLaneElems];
  packet.Decode(Lane(), w);
  TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
    const int column = Unit::QuadColumn(Lane(), k / 4) + k % 4;
    if (column < n_elems) F32Row(y, t)[first + column] = w[k];
  }
}

// A warp rounds one block of 32: q = round(x / d), d = max|x| / 127, as kernels/cpu/byte_rows.h
// does. A block with a value that is no number has a d that is none. Blocks beyond the row are 0.
inline constexpr int kRoundWarps = 4;

TC_KERNEL RoundRowsKernel(TensorView x, ByteRows rows) {
  const int64_t block = static_cast<int64_t>(BlockIndex().x) * kRoundWarps + Warp();
  const int64_t t = BlockIndex().y, unit = block / kUnitLanes;
  if (unit * kByteUnitBytes >= rows.row_bytes) return;
  const bool is_there = block * kGroupElems < x.n_cols;
  const float value = is_there ? F32Row(x, t)[block * kGroupElems + Lane()] : 0.0f;
  // As integers, magnitudes are in the order of floats, and what is no number is above all others.
  uint32_t largest_bits = FloatToBits(value) & 0x7fffffffu;
  TC_UNROLL for (int d = kWarp / 2; d > 0; d /= 2) {
    const uint32_t other = ShuffleXor(largest_bits, d);
    largest_bits = other > largest_bits ? other : largest_bits;
  }
  const float largest = BitsToFloat(largest_bits);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  const int rounded = RoundToInt(value * inverse);
  const int q = rounded > 127 ? 127 : rounded < -127 ? -127 : rounded;
  std::byte* const to = rows.data + t * rows.row_bytes + unit * kByteUnitBytes;
  const int64_t j = block % kUnitLanes;
  to[4 * (Lane() / 4 * kUnitLanes + j) + Lane() % 4] = static_cast<std::byte>(q & 0xff);
  if (Lane() == 0) {
    reinterpret_cast<float*>(to + kUnitElems)[j] = largest / 127.0f + (largest - largest);
  }
}

void Add(void* stream, const TensorView& a, const TensorView& b, const TensorView& y) {
  Launch(AddKernel, ElementGrid(y), kElementThreads, stream, a, b, y);
}
void Copy(void* stream, const TensorView& x, const TensorView& y) {
  Launch(CopyKernel, ElementGrid(y), kElementThreads, stream, x, y);
}
void AddSums(void* stream, const SumsView& sums, const SumsView& part) {
  Launch(AddSumsKernel, {(sums.n_cols + kElementThreads - 1) / kElementThreads, sums.n_rows},
         kElementThreads, stream, sums, part);
}
void RoundSums(void* stream, const SumsView& sums, const SumsView& part, const TensorView& bias,
               const TensorView& y) {
  Launch(RoundSumsKernel, ElementGrid(y), kElementThreads, stream, sums, part, bias, y);
}
void Activate(void* stream, Activation kind, const TensorView& gate, const TensorView& up,
              const TensorView& y) {
  Launch(ActivateKernel, ElementGrid(y), kElementThreads, stream, kind, gate, up, y);
}
void ZeroBelow(void* stream, const TensorView& a, float threshold) {
  Launch(ZeroBelowKernel, ElementGrid(a), kElementThreads, stream, a, threshold);
}
void Embed(void* stream, const TensorView& table, const int32_t* ids, const TensorView& y) {
  const int64_t n_units = (y.n_cols + kUnitElems - 1) / kUnitElems;
  ForType(table.dtype, [&]<DType kType>() {
    Launch(EmbedKernel<kType>, {(n_units + kEmbedWarps - 1) / kEmbedWarps, y.n_rows},
           kEmbedWarps * kWarp, stream, table, ids, y, HasAlignedRows<kType>(table));
  });
}
void RoundRows(void* stream, const TensorView& x, const ByteRows& rows) {
  const int64_t n_blocks = rows.row_bytes / kByteUnitBytes * kUnitLanes;
  Launch(RoundRowsKernel, {(n_blocks + kRoundWarps - 1) / kRoundWarps, x.n_rows},
         kRoundWarps * kWarp, stream, x, rows);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
