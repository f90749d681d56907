// Sums of packed weight rows scaled by activations: the sums of axpy_rows.cc, element by element.
//
// Sums are kept in the order of the packed rows, a unit's 512 elements as [weight of the block]
// [lane], and put in order at the end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/axpy_lanes.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/cpu/axpy_tile-inl.h"
#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Neurons per pass of the one-token kernel: one load and store of a sum serves this many.
constexpr int kNeurons = 4;
// Units whose sums a pass over the rows keeps: 32 KiB, an L1 cache.
constexpr int64_t kPassUnits = 16;
// The many-token kernel: 16 decoded neurons of one unit and the sums of 16 tokens, 32 KiB each.
constexpr int64_t kNeuronBlock = 16;
constexpr int64_t kTokenBlock = 16;
static_assert(kNeuronBlock * kUnitElems + kTokenBlock * (kUnitElems + kNeuronBlock) <=
              kScratchFloats);
static_assert(kPassUnits * kUnitElems <= kScratchFloats);

struct Job {
  TensorView w, a;
  ActiveIds active;
  const float* bias;  // null: none
  TensorView y;

  int64_t n_active() const { return active.count(w.n_rows); }
  int64_t n_blocks() const { return w.n_cols / kGroupElems; }
  int lanes_of(int64_t unit) const {
    return static_cast<int>(std::min<int64_t>(kUnitLanes, n_blocks() - unit * kUnitLanes));
  }
};

// Byte c of each dword of quants, less the type's offset, as a float.
template <typename D>
HWY_INLINE LaneVF Values(LaneVI quants, int c) {
  const LaneVI shifted = hn::ShiftRightSame(quants, 8 * c);
#if HWY_TARGET == HWY_AVX3
  // Up to 4 bits: a table of all values, indexed by the low bits of each lane, in place of masking,
  // offset and conversion.
  if constexpr (D::kDType == DType::kQ4_0 || D::kDType == DType::kQ4_K) {
    const LaneVF table = hn::Iota(LaneF(), -static_cast<float>(D::kOffset));
    return LaneVF{_mm512_permutexvar_ps(shifted.raw, table.raw)};
  }
#endif
  const LaneVI byte = hn::And(shifted, hn::Set(LaneI(), 0xff));
  return hn::ConvertTo(LaneF(), hn::Sub(byte, hn::Set(LaneI(), D::kOffset)));
}

// Scales and mins of one part of a unit.
template <typename D>
struct PartScales {
  LaneVF scales[D::kHalves];
  LaneVF min;

  HWY_INLINE PartScales(const uint8_t* unit, int n_lanes, int part) : min(hn::Zero(LaneF())) {
    D::Scales(unit, n_lanes, part, scales, min);
  }
  // The weights of dword t, byte c: of each lane one.
  HWY_INLINE LaneVF Weights(LaneVI quants, int t, int c) const {
    const LaneVF q = Values<D>(quants, c);
    const LaneVF scale = scales[t * D::kHalves / kDwordsPerBlock];
    if constexpr (D::kHasMin) return hn::MulSub(q, scale, min);
    return hn::Mul(q, scale);
  }
};

template <typename D, int n>
HWY_INLINE void AddPart(const uint8_t* const (&units)[n], const PartScales<D> (&scales)[n],
                        const LaneVF (&factors)[n], int n_lanes, int part, float* sums) {
  for (int t = 0; t < kDwordsPerBlock; ++t) {
    LaneVI quants[n];
    for (int i = 0; i < n; ++i) quants[i] = D::Quants(units[i], n_lanes, t, part);
    for (int c = 0; c < kLaneStep; ++c) {
      float* at = sums + (t * kLaneStep + c) * kUnitLanes + part * kVecLanes;
      LaneVF sum = hn::LoadU(LaneF(), at);
      for (int i = 0; i < n; ++i) {
        sum = hn::MulAdd(scales[i].Weights(quants[i], t, c), factors[i], sum);
      }
      hn::StoreU(sum, LaneF(), at);
    }
  }
}

// sums[512] += n rows of one unit times their factors.
template <typename D, int n>
HWY_INLINE void AddUnits(const uint8_t* const (&units)[n], const LaneVF (&factors)[n], int n_lanes,
                         float* sums) {
  for (int part = 0; part < kParts; ++part) {
    if (part * kVecLanes >= n_lanes) return;
    const auto scales = [&](int i) { return PartScales<D>(units[i], n_lanes, part); };
    if constexpr (n == 1) {
      const PartScales<D> own[1] = {scales(0)};
      AddPart<D, 1>(units, own, factors, n_lanes, part, sums);
    } else {
      const PartScales<D> own[kNeurons] = {scales(0), scales(1), scales(2), scales(3)};
      AddPart<D, kNeurons>(units, own, factors, n_lanes, part, sums);
    }
  }
}

// y = sums + 0 + bias, from packed to plain order.
HWY_INLINE void Finish(const Job& job, int64_t t, int64_t unit, const float* sums) {
  float* y = job.y.f32_row(t) + unit * kUnitElems;
  const float* bias = job.bias == nullptr ? nullptr : job.bias + unit * kUnitElems;
  for (int lane = 0; lane < job.lanes_of(unit); ++lane) {
    for (int e = 0; e < kGroupElems; ++e) {
      const float sum = sums[e * kUnitLanes + lane] + 0.0f;
      y[lane * kGroupElems + e] = bias == nullptr ? sum : sum + bias[lane * kGroupElems + e];
    }
  }
}

// n neurons from position `first` of the list on, units [begin, end), one token.
template <typename D, int n>
HWY_INLINE void AddNeurons(const Job& job, int64_t first, int64_t begin, int64_t end, float* sums) {
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  const int64_t last = job.n_active() - 1;
  const uint8_t* rows[n];
  const uint8_t* next[n];  // the rows of the next pass, fetched meanwhile
  LaneVF factors[n];
  for (int i = 0; i < n; ++i) {
    const int64_t id = job.active.id(first + i);
    const int64_t next_id = job.active.id(std::min(first + n + i, last));
    rows[i] = reinterpret_cast<const uint8_t*>(job.w.row(id)) + begin * kFullBytes;
    next[i] = reinterpret_cast<const uint8_t*>(job.w.row(next_id)) + begin * kFullBytes;
    factors[i] = hn::Set(LaneF(), job.a.f32_row(0)[id]);
  }
  for (int64_t unit = begin; unit < end; ++unit, sums += kUnitElems) {
    for (int i = 0; i < n; ++i) {
      for (int at = 0; at < kFullBytes; at += 64) hwy::Prefetch(next[i] + at);
      next[i] += kFullBytes;
    }
    AddUnits<D, n>(rows, factors, job.lanes_of(unit), sums);
    for (int i = 0; i < n; ++i) rows[i] += kFullBytes;
  }
}

template <typename D>
HWY_NOINLINE void OneToken(const Job& job, int64_t first_unit, int64_t end_unit, float* sums) {
  const int64_t n = job.n_active();
  for (int64_t begin = first_unit; begin < end_unit; begin += kPassUnits) {
    const int64_t end = std::min(end_unit, begin + kPassUnits);
    std::fill_n(sums, (end - begin) * kUnitElems, 0.0f);
    int64_t i = 0;
    for (; i + kNeurons <= n; i += kNeurons) AddNeurons<D, kNeurons>(job, i, begin, end, sums);
    for (; i < n; ++i) AddNeurons<D, 1>(job, i, begin, end, sums);
    for (int64_t unit = begin; unit < end; ++unit) {
      Finish(job, 0, unit, sums + (unit - begin) * kUnitElems);
    }
  }
}

template <typename D>
HWY_INLINE void DecodeUnit(const uint8_t* unit, int n_lanes, float* out) {
  for (int part = 0; part < kParts; ++part) {
    const PartScales<D> scales(unit, n_lanes, part);
    for (int t = 0; t < kDwordsPerBlock; ++t) {
      const LaneVI quants = D::Quants(unit, n_lanes, t, part);
      for (int c = 0; c < kLaneStep; ++c) {
        hn::StoreU(scales.Weights(quants, t, c), LaneF(),
                   out + (t * kLaneStep + c) * kUnitLanes + part * kVecLanes);
      }
    }
  }
}

// Neurons [first, first + n) of the list, one unit, tokens [t0, t0 + n_tokens).
template <typename D>
HWY_INLINE void AddBlock(const Job& job, int64_t first, int64_t n, int64_t unit, int64_t t0,
                         int64_t n_tokens, float* scratch) {
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  float* const sums = scratch;
  float* const w = sums + kTokenBlock * kUnitElems;
  float* const factors = w + kNeuronBlock * kUnitElems;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t id = job.active.id(first + i);
    DecodeUnit<D>(reinterpret_cast<const uint8_t*>(job.w.row(id)) + unit * kFullBytes,
                  job.lanes_of(unit), w + i * kUnitElems);
    for (int64_t t = 0; t < n_tokens; ++t) {
      factors[t * kNeuronBlock + i] = job.a.f32_row(t0 + t)[id];
    }
  }
  AxpyTile<kUnitElems, kNeuronBlock>::AddTokens(w, n, factors, n_tokens, sums);
}

template <typename D>
HWY_NOINLINE void ManyTokens(const Job& job, int64_t first_unit, int64_t end_unit, float* scratch) {
  for (int64_t unit = first_unit; unit < end_unit; ++unit) {
    for (int64_t t0 = 0; t0 < job.y.n_rows; t0 += kTokenBlock) {
      const int64_t n_tokens = std::min(kTokenBlock, job.y.n_rows - t0);
      std::fill_n(scratch, n_tokens * kUnitElems, 0.0f);
      for (int64_t i = 0; i < job.n_active(); i += kNeuronBlock) {
        const int64_t n = std::min(kNeuronBlock, job.n_active() - i);
        AddBlock<D>(job, i, n, unit, t0, n_tokens, scratch);
      }
      for (int64_t t = 0; t < n_tokens; ++t) Finish(job, t0 + t, unit, scratch + t * kUnitElems);
    }
  }
}

HWY_NOINLINE void Run(CpuContext& context, const Job& job) {
  const int64_t n_units = (job.n_blocks() + kUnitLanes - 1) / kUnitLanes;
  const int64_t n_products = std::max<int64_t>(1, job.n_active() * job.y.n_rows) * kUnitElems;
  ForParts(context, n_units, 1, MinItems(n_products), [&](int64_t begin, int64_t end, int thread) {
    float* scratch = context.thread_scratch(thread);
    WithLaneType(job.w.dtype, [&](auto decoder) {
      using D = decltype(decoder);
      if (job.y.n_rows == 1) return OneToken<D>(job, begin, end, scratch);
      ManyTokens<D>(job, begin, end, scratch);
    });
  });
}

}  // namespace

void LanesAxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
                   TensorView bias, TensorView y) {
  Run(context, {w, a, active, bias.empty() ? nullptr : bias.f32_row(0), y});
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(LanesAxpyRows);

void AxpyLanes(CpuContext& context, TensorView w, TensorView a, ActiveIds active, TensorView bias,
               TensorView y) {
  HWY_DYNAMIC_DISPATCH(LanesAxpyRows)(context, w, a, active, bias, y);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
