// Keys and values into their pages, and attention over them.
//
// Positions are taken 32 at a time, a position per lane for the scores, with a running maximum
// (Milakov & Gimelshein 2018), and in chunks of 256 that each start afresh. The chunks of a row
// join in ascending order: in the block that computed them, or, where there are too few rows to
// fill the device, in a second kernel, by the same arithmetic. So a row's bits depend on its own
// sequence only. A block's 8 rows share the keys and values that it loads: the query heads of a KV
// head, and with few of those several tokens.
#pragma once

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/simt.cuh"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kStoreThreads = 256;

// The elements of one head at `position`, behind those of k or v.
TC_DEVICE std::byte* PageRow(const KvPages& pages, std::byte* data, const int32_t* page_ids,
                             int64_t position, int head) {
  const int64_t elem_bytes = pages.dtype == DType::kF32 ? 4 : 2;
  const int64_t page = page_ids[position / pages.page_tokens];
  const int64_t slot =
      static_cast<int64_t>(head) * pages.page_tokens + position % pages.page_tokens;
  const int64_t page_elems =
      static_cast<int64_t>(pages.page_tokens) * pages.n_head_kv * pages.head_dim;
  return data + (page * page_elems + slot * pages.head_dim) * elem_bytes;
}

TC_DEVICE void StoreElement(const KvPages& pages, std::byte* row, int i, float value) {
  if (pages.dtype == DType::kF32) {
    reinterpret_cast<float*>(row)[i] = value;
  } else {
    reinterpret_cast<uint16_t*>(row)[i] = FloatToHalf(value);
  }
}

// A block per row of k and v.
TC_KERNEL StoreKvKernel(StoreKvJob job) {
  const int64_t row = BlockIndex().x;
  const int32_t s = job.sequence_of_row[row];
  if (s < 0) return;
  const SequenceSpan sequence = job.sequences[s];
  const int64_t position = sequence.first_position + row - sequence.first_row;
  const int n = job.pages.n_head_kv * job.pages.head_dim;
  for (int c = ThreadIndex(); c < n; c += kStoreThreads) {
    const int head = c / job.pages.head_dim, i = c % job.pages.head_dim;
    StoreElement(job.pages, PageRow(job.pages, job.pages.k, sequence.page_ids, position, head), i,
                 F32Row(job.k, row)[c]);
    StoreElement(job.pages, PageRow(job.pages, job.pages.v, sequence.page_ids, position, head), i,
                 F32Row(job.v, row)[c]);
  }
}

// What a row has seen so far; each lane has elements lane, lane + 32, ... of the weighted sum.
template <int kDims>
struct Seen {
  float max = -kInfinity;
  float total = 0;
  float sums[kDims] = {};

  // Adds what was seen later.
  TC_DEVICE void Join(const Seen& later) {
    const float both = max > later.max ? max : later.max;
    const float here = Exp(max - both), there = Exp(later.max - both);
    total = total * here + later.total * there;
    TC_UNROLL for (int d = 0; d < kDims; ++d) sums[d] = sums[d] * here + later.sums[d] * there;
    max = both;
  }
};

// The warp's query row.
struct QueryRow {
  int64_t token_row = 0;  // of q and y
  int head = 0;
  int64_t position = -1;  // it sees 0 .. position; -1: no row for this warp
};

TC_DEVICE QueryRow RowOf(const AttentionJob& job, const SequenceSpan& sequence, const RowTile& tile,
                         int head_kv, int in_tile) {
  if (in_tile >= tile.n_rows) return {};
  const int group = job.n_head / job.pages.n_head_kv, i = tile.first + in_tile;
  return {sequence.first_row + i / group, head_kv * group + i % group,
          sequence.first_position + i / group};
}

template <DType kKv, int kDims>
struct AttentionBlock {
  static constexpr int kCols = kDims * kWarp;
  const AttentionJob& job;
  const SequenceSpan& sequence;
  int head_kv;
  int64_t last_position;  // of the block's rows
  const float* q;         // shared: the warp's row
  float* tile;            // shared [kWarp][kCols + 1]: keys, then values, of 32 positions
  float* weights;         // shared: the warp's 32

  // Positions first .. first + 31, 0 beyond the last; the extra column keeps lanes off one bank.
  TC_DEVICE void Load(std::byte* data, int64_t first) const {
    SyncBlock();
    for (int p = Warp(); p < kWarp; p += kAttentionRows) {
      const bool is_there = first + p <= last_position;
      const std::byte* const row =
          is_there ? PageRow(job.pages, data, sequence.page_ids, first + p, head_kv) : nullptr;
      TC_UNROLL for (int d = 0; d < kDims; ++d) {
        const int c = d * kWarp + Lane();
        float value = 0;
        if (is_there && c < job.pages.head_dim) {
          value = kKv == DType::kF32 ? reinterpret_cast<const float*>(row)[c]
                                     : HalfToFloat(reinterpret_cast<const uint16_t*>(row)[c]);
        }
        tile[p * (kCols + 1) + c] = value;
      }
    }
    SyncBlock();
  }

  TC_DEVICE float Score(const QueryRow& row, int64_t first) const {
    if (first + Lane() > row.position) return -kInfinity;
    const float* const key = tile + Lane() * (kCols + 1);
    float dot = 0;
    for (int c = 0; c < job.pages.head_dim; ++c) dot = Fma(q[c], key[c], dot);
    return dot * job.scale;
  }

  // Adds the values of 32 positions, whose scores the lanes have; `tile` has the values.
  TC_DEVICE void AddValues(float score, Seen<kDims>* seen) const {
    const float of_tile = WarpMax(score);
    const float max = seen->max > of_tile ? seen->max : of_tile;
    const float weight = Exp(score - max), before = Exp(seen->max - max);
    seen->max = max;
    seen->total = seen->total * before + WarpSum(weight);
    weights[Lane()] = weight;
    SyncWarp();
    TC_UNROLL for (int d = 0; d < kDims; ++d) seen->sums[d] *= before;
    for (int p = 0; p < kWarp; ++p) {
      TC_UNROLL for (int d = 0; d < kDims; ++d) {
        seen->sums[d] = Fma(weights[p], tile[p * (kCols + 1) + d * kWarp + Lane()], seen->sums[d]);
      }
    }
    SyncWarp();
  }

  TC_DEVICE Seen<kDims> Chunk(const QueryRow& row, int64_t chunk) const {
    Seen<kDims> seen;
    const int64_t begin = chunk * kAttentionChunk;
    const int64_t end = Min(begin + kAttentionChunk, last_position + 1);
    for (int64_t first = begin; first < end; first += kWarp) {
      const bool sees = first <= row.position;
      Load(job.pages.k, first);
      const float score = sees ? Score(row, first) : 0.0f;
      Load(job.pages.v, first);
      if (sees) AddValues(score, &seen);
    }
    return seen;
  }
};

// Where a warp's state lies: of the job's chunk `slot - 1`, or with slot 0 of all chunks before.
TC_DEVICE float* PartialOf(const AttentionJob& job, int64_t slot) {
  const int64_t block =
      (slot * job.n_tiles + BlockIndex().x) * job.pages.n_head_kv + BlockIndex().y;
  return job.partials + (block * kAttentionRows + Warp()) * (job.pages.head_dim + 2);
}

template <int kDims>
TC_DEVICE Seen<kDims> LoadPartial(const AttentionJob& job, const float* partial) {
  Seen<kDims> seen;
  seen.max = partial[0], seen.total = partial[1];
  TC_UNROLL for (int d = 0; d < kDims; ++d) {
    const int c = d * kWarp + Lane();
    seen.sums[d] = c < job.pages.head_dim ? partial[2 + c] : 0.0f;
  }
  return seen;
}

template <int kDims>
TC_DEVICE void StoreOutput(const AttentionJob& job, const QueryRow& row, const Seen<kDims>& seen) {
  float* const y = F32Row(job.y, row.token_row) + row.head * job.pages.head_dim;
  TC_UNROLL for (int d = 0; d < kDims; ++d) {
    const int c = d * kWarp + Lane();
    if (c < job.pages.head_dim) y[c] = seen.sums[d] / seen.total;
  }
}

template <int kDims>
TC_DEVICE void StorePartial(const AttentionJob& job, float* partial, const Seen<kDims>& seen) {
  if (Lane() == 0) partial[0] = seen.max, partial[1] = seen.total;
  TC_UNROLL for (int d = 0; d < kDims; ++d) {
    const int c = d * kWarp + Lane();
    if (c < job.pages.head_dim) partial[2 + c] = seen.sums[d];
  }
}

// Block (tile, KV head, chunk; one block for all chunks without partials).
template <DType kKv, int kDims>
TC_KERNEL AttentionKernel(AttentionJob job) {
  TC_SHARED float tile_rows[kWarp * (kDims * kWarp + 1)];
  TC_SHARED float queries[kAttentionRows][kDims * kWarp];
  TC_SHARED float weights[kAttentionRows][kWarp];
  const RowTile tile = job.tiles[BlockIndex().x];
  const SequenceSpan sequence = job.sequences[tile.sequence];
  const int head_kv = BlockIndex().y;
  const QueryRow row = RowOf(job, sequence, tile, head_kv, Warp());
  const QueryRow last = RowOf(job, sequence, tile, head_kv, tile.n_rows - 1);
  const int64_t n_chunks = last.position / kAttentionChunk + 1;
  if (job.partials != nullptr && job.first_chunk + BlockIndex().z >= n_chunks) return;

  for (int c = Lane(); row.position >= 0 && c < job.pages.head_dim; c += kWarp) {
    queries[Warp()][c] = F32Row(job.q, row.token_row)[row.head * job.pages.head_dim + c];
  }
  SyncWarp();
  const AttentionBlock<kKv, kDims> block{
      job, sequence, head_kv, last.position, queries[Warp()], tile_rows, weights[Warp()]};
  if (job.partials != nullptr) {
    const int64_t chunk = job.first_chunk + BlockIndex().z;
    const Seen<kDims> seen = block.Chunk(row, chunk);
    if (chunk * kAttentionChunk <= row.position) {
      StorePartial(job, PartialOf(job, 1 + BlockIndex().z), seen);
    }
    return;
  }
  Seen<kDims> all;
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const Seen<kDims> seen = block.Chunk(row, chunk);
    if (chunk * kAttentionChunk <= row.position) all.Join(seen);
  }
  if (row.position >= 0) StoreOutput(job, row, all);
}

// Block (tile, KV head): the job's chunks of each row in order, behind those before.
template <int kDims>
TC_KERNEL JoinChunksKernel(AttentionJob job) {
  const RowTile tile = job.tiles[BlockIndex().x];
  const QueryRow row = RowOf(job, job.sequences[tile.sequence], tile, BlockIndex().y, Warp());
  if (row.position < 0) return;
  const int64_t n_left = row.position / kAttentionChunk + 1 - job.first_chunk;  // of the row
  if (n_left <= 0) return;
  Seen<kDims> all;
  if (job.first_chunk > 0) all = LoadPartial<kDims>(job, PartialOf(job, 0));
  const int64_t n_here = Min(n_left, job.n_chunks);
  for (int64_t chunk = 0; chunk < n_here; ++chunk) {
    all.Join(LoadPartial<kDims>(job, PartialOf(job, 1 + chunk)));
  }
  if (n_here == n_left) {
    StoreOutput(job, row, all);
  } else {
    StorePartial(job, PartialOf(job, 0), all);
  }
}

template <DType kKv, int kDims>
void LaunchAttention(void* stream, const AttentionJob& job) {
  constexpr int kThreads = kAttentionRows * kWarp;
  const int64_t n_chunks = job.partials == nullptr ? 1 : job.n_chunks;
  Launch(AttentionKernel<kKv, kDims>, {job.n_tiles, job.pages.n_head_kv, n_chunks}, kThreads,
         stream, job);
  if (job.partials == nullptr) return;
  Launch(JoinChunksKernel<kDims>, {job.n_tiles, job.pages.n_head_kv}, kThreads, stream, job);
}

template <DType kKv>
void LaunchAttentionOf(void* stream, const AttentionJob& job) {
  if (job.pages.head_dim <= 2 * kWarp) return LaunchAttention<kKv, 2>(stream, job);
  if (job.pages.head_dim <= 4 * kWarp) return LaunchAttention<kKv, 4>(stream, job);
  LaunchAttention<kKv, kMaxHeadDim / kWarp>(stream, job);
}

void Attention(void* stream, const AttentionJob& job) {
  if (job.pages.dtype == DType::kF32) return LaunchAttentionOf<DType::kF32>(stream, job);
  LaunchAttentionOf<DType::kF16>(stream, job);
}

void StoreKv(void* stream, const StoreKvJob& job) {
  Launch(StoreKvKernel, {job.n_rows}, kStoreThreads, stream, job);
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
