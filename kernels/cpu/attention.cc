// Attention of one query head at a time over blocks of positions that lie together in a page, with
// the running softmax of Milakov & Gimelshein 2018 (algorithm 3): when a block raises the maximum,
// what was summed before is scaled down. The blocks depend on the position and the page size only,
// never on the batch.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "base/half.h"
#include "kernels/blocks.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));

// Positions whose scores are held at once: 64 keys of 128 halves are 16 KiB, half an L1 cache.
constexpr int kBlockPositions = 64;

HWY_INLINE VF LoadVec(const float* p) { return hn::LoadU(DF(), p); }
HWY_INLINE VF LoadVec(const hwy::float16_t* p) {
  return hn::PromoteTo(DF(), hn::LoadU(hn::Rebind<hwy::float16_t, DF>(), p));
}
HWY_INLINE float LoadOne(const float* p) { return *p; }
HWY_INLINE float LoadOne(const hwy::float16_t* p) { return F16ToF32(LoadU16(p)); }

// q . k; leftover dimensions are added one by one.
template <typename T>
HWY_INLINE float Dot(const float* q, const T* k, int n) {
  VF sums[2] = {hn::Zero(DF()), hn::Zero(DF())};
  int i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sums[0] = hn::MulAdd(hn::LoadU(DF(), q + i), LoadVec(k + i), sums[0]);
    sums[1] = hn::MulAdd(hn::LoadU(DF(), q + i + kLanes), LoadVec(k + i + kLanes), sums[1]);
  }
  for (; i + kLanes <= n; i += kLanes) {
    sums[0] = hn::MulAdd(hn::LoadU(DF(), q + i), LoadVec(k + i), sums[0]);
  }
  float sum = hn::GetLane(hn::SumOfLanes(DF(), hn::Add(sums[0], sums[1])));
  for (; i < n; ++i) sum += q[i] * LoadOne(k + i);
  return sum;
}

// The state of one head: y holds the sum of weights[p] * v[p] so far, relative to exp(max).
struct Softmax {
  float max = -std::numeric_limits<float>::infinity();
  float total = 0.0f;
};

HWY_INLINE void Scale(float factor, int n, float* y) {
  int i = 0;
  const VF f = hn::Set(DF(), factor);
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(DF(), y + i), f), DF(), y + i);
  }
  for (; i < n; ++i) y[i] *= factor;
}

// Turns scores[0 .. n) into weights exp(score - max) and returns their sum. scores has room for
// kBlockPositions; those past n become weight 0.
HWY_INLINE float Exponentials(float max, int n, float* scores) {
  std::fill(scores + n, scores + kBlockPositions, -std::numeric_limits<float>::max());
  VF total = hn::Zero(DF());
  for (int i = 0; i < n; i += kLanes) {
    const VF x = hn::Sub(hn::LoadU(DF(), scores + i), hn::Set(DF(), max));
    // Below -104 exp is 0 in F32; the bound keeps the argument finite.
    const VF weight = hn::Exp(DF(), hn::Max(x, hn::Set(DF(), -200.0f)));
    hn::StoreU(weight, DF(), scores + i);
    total = hn::Add(total, weight);
  }
  return hn::GetLane(hn::SumOfLanes(DF(), total));
}

// y[head_dim] += weights[n] x v[n, head_dim], kWide vectors of columns at a time.
template <int kWide, typename T>
HWY_INLINE void AddColumns(const float* weights, const T* v, int n, int head_dim, float* y) {
  VF sums[kWide];
  for (int j = 0; j < kWide; ++j) sums[j] = hn::LoadU(DF(), y + j * kLanes);
  for (int p = 0; p < n; ++p) {
    const VF weight = hn::Set(DF(), weights[p]);
    for (int j = 0; j < kWide; ++j) {
      sums[j] = hn::MulAdd(weight, LoadVec(v + p * head_dim + j * kLanes), sums[j]);
    }
  }
  for (int j = 0; j < kWide; ++j) hn::StoreU(sums[j], DF(), y + j * kLanes);
}

template <typename T>
HWY_INLINE void AddValues(const float* weights, const T* v, int n, int head_dim, float* y) {
  int i = 0;
  for (; i + 4 * kLanes <= head_dim; i += 4 * kLanes) {
    AddColumns<4>(weights, v + i, n, head_dim, y + i);
  }
  for (; i + kLanes <= head_dim; i += kLanes) {
    AddColumns<1>(weights, v + i, n, head_dim, y + i);
  }
  for (; i < head_dim; ++i) {
    for (int p = 0; p < n; ++p) y[i] += weights[p] * LoadOne(v + p * head_dim + i);
  }
}

// Adds n positions whose keys and values follow one another.
template <typename T>
HWY_INLINE void AddPositions(const float* q, const T* k, const T* v, int n, int head_dim,
                             float scale, Softmax& softmax, float* y) {
  HWY_ALIGN float scores[kBlockPositions];
  float max = softmax.max;
  for (int p = 0; p < n; ++p) {
    scores[p] = Dot(q, k + p * head_dim, head_dim) * scale;
    max = std::max(max, scores[p]);
  }
  if (max > softmax.max) {
    const float shrink =
        hn::GetLane(hn::Exp(DF(), hn::Set(DF(), std::max(softmax.max - max, -200.0f))));
    softmax.total *= shrink;
    Scale(shrink, head_dim, y);
    softmax.max = max;
  }
  softmax.total += Exponentials(softmax.max, n, scores);
  AddValues(scores, v, n, head_dim, y);
}

template <typename T>
HWY_INLINE void AttendHead(const float* q, std::span<const int32_t> page_ids, int64_t n_positions,
                           int head_kv, const KvPages& pages, float scale, float* y) {
  std::fill_n(y, pages.head_dim, 0.0f);
  Softmax softmax;
  int64_t n = 0;
  for (int64_t p = 0; p < n_positions; p += n) {
    const int64_t left_in_page = pages.page_tokens - p % pages.page_tokens;
    n = std::min({left_in_page, n_positions - p, int64_t{kBlockPositions}});
    const uint64_t offset = pages.offset_bytes(page_ids, p, head_kv);
    AddPositions(q, reinterpret_cast<const T*>(pages.k + offset),
                 reinterpret_cast<const T*>(pages.v + offset), static_cast<int>(n), pages.head_dim,
                 scale, softmax, y);
  }
  Scale(1.0f / softmax.total, pages.head_dim, y);
}

}  // namespace

HWY_NOINLINE void AttendOne(const float* q, std::span<const int32_t> page_ids, int64_t n_positions,
                            int head_kv, const KvPages& pages, float scale, float* y) {
  if (pages.dtype == DType::kF16) {
    return AttendHead<hwy::float16_t>(q, page_ids, n_positions, head_kv, pages, scale, y);
  }
  AttendHead<float>(q, page_ids, n_positions, head_kv, pages, scale, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(AttendOne);

namespace {

// What one call computes, as a line of (sequence, token, head, position): each (token, head) takes
// as many places as it sees positions, so that equal stretches of the line are equal work.
struct Job {
  TensorView q;
  std::span<const SequenceRows> sequences;
  const KvPages& pages;
  float scale;
  TensorView y;

  int64_t n_head() const { return q.n_cols / pages.head_dim; }
  // The places of a whole sequence: its tokens see first_position + 1, + 2, ... positions.
  int64_t PlacesOf(const SequenceRows& sequence) const {
    const int64_t n = sequence.n_tokens;
    return n_head() * (n * sequence.first_position + n * (n + 1) / 2);
  }
  int64_t n_places() const {
    int64_t n = 0;
    for (const SequenceRows& sequence : sequences) n += PlacesOf(sequence);
    return n;
  }
  void Attend(const SequenceRows& sequence, int64_t t, int64_t head) const {
    const int64_t column = head * pages.head_dim, row = sequence.first_row + t;
    const int64_t heads_per_kv = n_head() / pages.n_head_kv;
    HWY_DYNAMIC_DISPATCH(AttendOne)
    (q.f32_row(row) + column, sequence.page_ids, sequence.first_position + t + 1,
     static_cast<int>(head / heads_per_kv), pages, scale, y.f32_row(row) + column);
  }
  // The heads of a sequence that begin in [begin, end) of its own places. The heads of a token
  // follow one another, so that neighbours share keys.
  void AttendSequence(const SequenceRows& sequence, int64_t begin, int64_t end) const {
    int64_t token_place = 0;
    for (int64_t t = 0; t < sequence.n_tokens && token_place < end; ++t) {
      const int64_t n_positions = sequence.first_position + t + 1;
      const int64_t next_place = token_place + n_head() * n_positions;
      for (int64_t head = 0; head < n_head() && next_place > begin; ++head) {
        const int64_t place = token_place + head * n_positions;
        if (begin <= place && place < end) Attend(sequence, t, head);
      }
      token_place = next_place;
    }
  }
};

}  // namespace

void Attention(CpuContext& context, TensorView q, std::span<const SequenceRows> sequences,
               const KvPages& pages, float scale, TensorView y) {
  DCHECK(pages.dtype == DType::kF32 || pages.dtype == DType::kF16);
  const Job job = {q, sequences, pages, scale, y};
  ForParts(context, job.n_places(), 1, MinItems(pages.head_dim),
           [&](int64_t begin, int64_t end, int) {
             int64_t first = 0;  // place of the sequence
             for (const SequenceRows& sequence : sequences) {
               const int64_t n = job.PlacesOf(sequence);
               if (begin < first + n && first < end) {
                 job.AttendSequence(sequence, begin - first, end - first);
               }
               first += n;
             }
           });
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
