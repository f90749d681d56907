// Sums of packed weight rows scaled by activations: the sums of axpy_rows.cc, element by element.
//
// Sums are kept in the order of the packed rows, [unit half][weight of the block][lane], and put in
// order at the end. A half of a unit is what threads share out: dwords 0, 1, 4 and 5 of its blocks,
// or 2, 3, 6 and 7, since two dwords four apart lie in the same bytes of nibbles.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/axpy_lanes.cc"
#include <hwy/foreach_target.h>

#include <algorithm>
#include <utility>

#include "kernels/cpu/ahead.h"
#include "kernels/cpu/axpy-inl.h"
#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace {

// Halves of units whose sums a pass over the rows keeps.
constexpr int64_t kPassHalves = kPassCols / kAxpyCols;
constexpr int kHalfDwords = kDwordsPerBlock / 2;
static_assert(2 * kAxpyCols == kUnitElems);

// Dword j of a half of a unit's blocks, as the unit counts them.
HWY_INLINE constexpr int DwordOf(int half, int j) { return half * 2 + j % 2 + j / 2 * 4; }

int LanesOf(const AxpyJob& job, int64_t unit) {
  return static_cast<int>(
      std::min<int64_t>(kUnitLanes, job.w.n_cols / kGroupElems - unit * kUnitLanes));
}

// Whether Values moves a byte to the top of its dword, where it needs neither mask nor sign
// extension: the floats are 2^24 times too large then, which scales make good exactly. 4-bit quants
// may be looked up instead, and without vectors there is no shuffle.
template <typename D>
constexpr bool kIsAtTop = HWY_TARGET != HWY_SCALAR &&
                          (HWY_TARGET != HWY_AVX3 ||
                           !(D::kDType == DType::kQ4_0 || D::kDType == DType::kQ4_K));
constexpr uint8_t kZero = 0x80;  // of a shuffle: no byte
alignas(16) constexpr uint8_t kToTop[kLaneStep][16] = {
    {kZero, kZero, kZero, 0, kZero, kZero, kZero, 4, kZero, kZero, kZero, 8, kZero, kZero, kZero,
     12},
    {kZero, kZero, kZero, 1, kZero, kZero, kZero, 5, kZero, kZero, kZero, 9, kZero, kZero, kZero,
     13},
    {kZero, kZero, kZero, 2, kZero, kZero, kZero, 6, kZero, kZero, kZero, 10, kZero, kZero, kZero,
     14},
    {kZero, kZero, kZero, 3, kZero, kZero, kZero, 7, kZero, kZero, kZero, 11, kZero, kZero, kZero,
     15}};
constexpr float kTopFactor = 1.0f / (1 << 24);

// Dword t of a part's lanes as Values takes it: bytes less the type's offset where they are moved.
template <typename D>
HWY_INLINE LaneVI QuantsOf(const uint8_t* unit, int n_lanes, int t, int part) {
  const LaneVI quants = D::Quants(unit, n_lanes, t, part);
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kIsAtTop<D> && D::kOffset != 0) {
    const hn::Repartition<uint8_t, LaneI> bytes;
    return hn::BitCast(LaneI(), hn::Sub(hn::BitCast(bytes, quants), hn::Set(bytes, D::kOffset)));
  }
#endif
  return quants;
}

// Byte c of each dword of quants, less the type's offset, as a float; times 2^24 if kIsAtTop.
template <typename D>
HWY_INLINE LaneVF Values(LaneVI quants, int c) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kIsAtTop<D>) {
    const hn::Repartition<uint8_t, LaneI> bytes;
    const auto moved =
        hn::TableLookupBytesOr0(hn::BitCast(bytes, quants), hn::LoadDup128(bytes, kToTop[c]));
    return hn::ConvertTo(LaneF(), hn::BitCast(LaneI(), moved));
  }
#endif
  const LaneVI shifted = hn::ShiftRightSame(quants, 8 * c);
#if HWY_TARGET == HWY_AVX3
  // A table of all values, indexed by the low bits of each lane, in place of masking, offset and
  // conversion.
  if constexpr (!kIsAtTop<D>) {
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
    if constexpr (kIsAtTop<D>) {
      for (LaneVF& scale : scales) scale = hn::Mul(scale, hn::Set(LaneF(), kTopFactor));
    }
  }
  // The weights of dword t, byte c: of each lane one.
  HWY_INLINE LaneVF Weights(LaneVI quants, int t, int c) const {
    const LaneVF q = Values<D>(quants, c);
    const LaneVF scale = scales[t * D::kHalves / kDwordsPerBlock];
    if constexpr (D::kHasMin) return hn::MulSub(q, scale, min);
    return hn::Mul(q, scale);
  }
};

// sums[half's 256] += n rows of one half of a unit times their factors. Meanwhile the rows ahead
// are fetched by step_bytes per dword.
template <typename D, int n>
HWY_INLINE void AddHalf(const uint8_t* const (&units)[n], const PartScales<D> (&scales)[n],
                        const LaneVF (&factors)[n], bool begins_chunk, int n_lanes, int part,
                        int half, int64_t step_bytes, RowsAhead<n>& ahead, ChunkSums sums) {
  for (int j = 0; j < kHalfDwords; ++j) {
    ahead.Step(step_bytes);
    const int t = DwordOf(half, j);
    LaneVI quants[n];
    for (int i = 0; i < n; ++i) quants[i] = QuantsOf<D>(units[i], n_lanes, t, part);
    for (int c = 0; c < kLaneStep; ++c) {
      const ChunkSums at = sums.At((j * kLaneStep + c) * kUnitLanes + part * kVecLanes);
      LaneVF sum = hn::LoadU(LaneF(), at.chunk);
      if (begins_chunk) {
        EndChunk(LaneF(), at);
        sum = hn::Zero(LaneF());
      }
      for (int i = 0; i < n; ++i) {
        sum = hn::MulAdd(scales[i].Weights(quants[i], t, c), factors[i], sum);
      }
      hn::StoreU(sum, LaneF(), at.chunk);
    }
  }
}

// Halves [begin, end) of one unit, of 0 .. 2.
struct Halves {
  int begin, end;
  int n() const { return end - begin; }
};

template <typename D, int n>
HWY_INLINE void AddUnits(const uint8_t* const (&units)[n], const LaneVF (&factors)[n],
                         bool begins_chunk, int n_lanes, Halves halves, RowsAhead<n>& ahead,
                         ChunkSums sums) {
  constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  const int n_steps = halves.n() * kHalfDwords * kParts;
  const int64_t step_bytes = (kFullBytes + n_steps - 1) / n_steps;
  for (int part = 0; part < kParts; ++part) {
    if (part * kVecLanes >= n_lanes) return;
    const auto scales = [&](int i) { return PartScales<D>(units[i], n_lanes, part); };
    const auto add = [&](const PartScales<D>(&own)[n]) {
      for (int half = halves.begin; half < halves.end; ++half) {
        AddHalf<D, n>(units, own, factors, begins_chunk, n_lanes, part, half, step_bytes, ahead,
                      sums.At((half - halves.begin) * kAxpyCols));
      }
    };
    [&]<int... i>(std::integer_sequence<int, i...>) {
      const PartScales<D> own[n] = {scales(i)...};
      add(own);
    }
    (std::make_integer_sequence<int, n>());
  }
}

// One half of a unit: its columns, as packed rows have them.
template <typename D>
struct LaneColumns {
  static constexpr int kFullBytes = UnitLayout::Of(D::kDType, kUnitLanes).n_bytes;
  int64_t unit;
  int half;
  int n_lanes;

  LaneColumns(const AxpyJob& job, int64_t i_half)
      : unit(i_half / 2), half(static_cast<int>(i_half % 2)), n_lanes(LanesOf(job, unit)) {}

  HWY_INLINE const uint8_t* Slice(const uint8_t* row) const { return row + unit * kFullBytes; }
  // The whole unit: the other half is this thread's too, or its neighbour's who wants it now.
  HWY_INLINE int64_t slice_bytes() const { return UnitLayout::Of(D::kDType, n_lanes).n_bytes; }
  HWY_INLINE void Decode(const uint8_t* row, float* w) const {
    for (int part = 0; part < kParts && part * kVecLanes < n_lanes; ++part) {
      const PartScales<D> scales(Slice(row), n_lanes, part);
      for (int j = 0; j < kHalfDwords; ++j) {
        const int t = DwordOf(half, j);
        const LaneVI quants = QuantsOf<D>(Slice(row), n_lanes, t, part);
        for (int c = 0; c < kLaneStep; ++c) {
          hn::StoreU(scales.Weights(quants, t, c), LaneF(),
                     w + (j * kLaneStep + c) * kUnitLanes + part * kVecLanes);
        }
      }
    }
  }
  // From packed to plain order.
  HWY_INLINE void Finish(const AxpyJob& job, int64_t t, ChunkSums sums) const {
    for (int lane = 0; lane < n_lanes; ++lane) {
      const int64_t block = unit * kUnitElems + lane * kGroupElems;
      for (int e = 0; e < kHalfDwords * kLaneStep; ++e) {
        const int64_t c = block + DwordOf(half, e / kLaneStep) * kLaneStep + e % kLaneStep;
        job.Finish(t, c, sums.Total(e * kUnitLanes + lane));
      }
    }
  }
};

// The neurons of a pass, halves [begin, end), one token.
template <typename D, int n>
HWY_INLINE void AddNeurons(const AxpyJob& job, const NeuronPass<n>& pass, int64_t begin,
                           int64_t end, ChunkSums sums) {
  constexpr int kFullBytes = LaneColumns<D>::kFullBytes;
  const int64_t offset = begin / 2 * kFullBytes;
  const uint8_t* rows[n];
  RowsAhead<n> ahead;  // rows of a later pass
  LaneVF factors[n];
  for (int i = 0; i < n; ++i) {
    rows[i] = job.w_row(pass.first + i) + offset;
    ahead.rows[i] = job.w_row(pass.RowAhead(i, job.n_active())) + offset;
    factors[i] = hn::Set(LaneF(), job.factor(0, pass.first + i));
  }
  for (int64_t half = begin; half < end;) {
    const int in_unit = static_cast<int>(half % 2);
    const Halves halves{in_unit, static_cast<int>(std::min<int64_t>(2, in_unit + end - half))};
    AddUnits<D, n>(rows, factors, pass.begins_chunk, LanesOf(job, half / 2), halves, ahead, sums);
    for (int i = 0; i < n; ++i) rows[i] += kFullBytes;
    sums = sums.At(halves.n() * kAxpyCols);
    half += halves.n();
  }
}

template <typename D>
HWY_NOINLINE void OneToken(const AxpyJob& job, int64_t first_half, int64_t end_half,
                           float* scratch) {
  const ChunkSums sums = {scratch, reinterpret_cast<double*>(scratch + kPassCols)};
  for (int64_t begin = first_half; begin < end_half; begin += kPassHalves) {
    const int64_t end = std::min(end_half, begin + kPassHalves);
    std::fill_n(sums.chunk, (end - begin) * kAxpyCols, 0.0f);
    std::fill_n(sums.before, (end - begin) * kAxpyCols, 0.0);
    AddInPasses(job, [&](const auto& pass) { AddNeurons<D>(job, pass, begin, end, sums); });
    for (int64_t half = begin; half < end; ++half) {
      LaneColumns<D>(job, half).Finish(job, 0, sums.At((half - begin) * kAxpyCols));
    }
  }
}

// Whole units to a thread while there are enough of them: two threads that share a unit both fetch
// its scales.
int64_t GranuleOf(const CpuContext& context, int64_t n_units) {
  return n_units >= 2 * context.pool->n_threads() ? 2 : 1;
}

template <typename D>
HWY_NOINLINE void ManyTokens(const AxpyJob& job, const TokenBlock& tokens, int64_t begin,
                             int64_t end, float* scratch) {
  for (int64_t half = begin; half < end; ++half) {
    AddTile(job, tokens, LaneColumns<D>(job, half), scratch);
  }
}

HWY_NOINLINE void Run(CpuContext& context, const AxpyJob& job) {
  const int64_t n_units = (job.w.n_cols / kGroupElems + kUnitLanes - 1) / kUnitLanes;
  const auto for_parts = [&](int64_t n_tokens, auto fn) {
    const int64_t n_products = std::max<int64_t>(1, job.n_active() * n_tokens) * kAxpyCols;
    const int64_t min_halves =
        std::max(LeastPart(context, 2 * n_units, n_tokens), MinItems(n_products));
    ForParts(context, 2 * n_units, GranuleOf(context, n_units), min_halves,
             [&](int64_t begin, int64_t end, int thread) {
               float* const scratch = context.thread_scratch(thread);
               WithLaneType(job.w.dtype, [&](auto decoder) { fn(decoder, begin, end, scratch); });
             });
  };
  if (job.n_tokens() == 1) {
    return for_parts(1, [&](auto decoder, int64_t begin, int64_t end, float* scratch) {
      OneToken<decltype(decoder)>(job, begin, end, scratch);
    });
  }
  ForTokenBlocks(context, job, [&](const TokenBlock& tokens) {
    for_parts(tokens.n, [&](auto decoder, int64_t begin, int64_t end, float* scratch) {
      ManyTokens<decltype(decoder)>(job, tokens, begin, end, scratch);
    });
  });
}

}  // namespace

void LanesAxpyRows(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
                   const AxpyOutput& output) {
  Run(context, {w, a, active, output});
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline::kernels::cpu {

HWY_EXPORT(LanesAxpyRows);

void AxpyLanes(CpuContext& context, TensorView w, TensorView a, ActiveIds active,
               const AxpyOutput& output) {
  HWY_DYNAMIC_DISPATCH(LanesAxpyRows)(context, w, a, active, output);
}

}  // namespace thermocline::kernels::cpu
#endif  // HWY_ONCE
