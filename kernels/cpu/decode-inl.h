// Vector decoding of weights, 32 at a time, for the instruction set being compiled. Included once
// per instruction set by the op files, after hwy/foreach_target.h.
//
// Decoder<type> has kBlockElems, kBlockBytes, kGroups (of 32 elements per block), a State prepared
// once per block, and Decode(state, block, g): the 32 weights of group g in order. Its values are
// bit for bit those of DequantizeRow.
#if defined(TC_KERNELS_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TC_KERNELS_CPU_DECODE_INL_H_
#undef TC_KERNELS_CPU_DECODE_INL_H_
#else
#define TC_KERNELS_CPU_DECODE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstring>

#include "base/half.h"
#include "kernels/blocks.h"
#include "kernels/device.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using DI = hn::Rebind<int32_t, DF>;
using DU8 = hn::Rebind<uint8_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(DF()));
constexpr int kVecs = kGroupElems / kLanes;

// 32 consecutive elements of a row.
struct Group {
  // Written out, since a constructor that the compiler makes is not for this instruction set.
  HWY_INLINE Group() {}
  VF v[kVecs];
};

HWY_INLINE Group LoadGroup(const float* p) {
  Group group;
  for (int v = 0; v < kVecs; ++v) group.v[v] = hn::LoadU(DF(), p + v * kLanes);
  return group;
}

HWY_INLINE void StoreGroup(const Group& group, float* p) {
  for (int v = 0; v < kVecs; ++v) hn::StoreU(group.v[v], DF(), p + v * kLanes);
}

HWY_INLINE VI LoadBytes(const uint8_t* p) { return hn::PromoteTo(DI(), hn::LoadU(DU8(), p)); }

// Bits [shift, shift + width) of each lane.
HWY_INLINE VI Bits(VI value, int shift, int mask) {
  return hn::And(hn::ShiftRightSame(value, shift), hn::Set(DI(), mask));
}

template <DType kType>
struct Decoder;

template <DType kType>
struct BlockDecoder {
  static constexpr DType kDType = kType;
  static constexpr int kBlockElems = static_cast<int>(Traits(kType).block_elems);
  static constexpr int kBlockBytes = static_cast<int>(Traits(kType).block_bytes);
  static constexpr int kGroups = kBlockElems / kGroupElems;
};

// A float type has no blocks; it is decoded as if 32 elements were one.
template <DType kType>
struct FloatDecoder {
  struct State {};
  static constexpr DType kDType = kType;
  static constexpr int kBlockElems = kGroupElems, kGroups = 1;
  static constexpr int kBlockBytes = kGroupElems * static_cast<int>(Traits(kType).block_bytes);
  static HWY_INLINE State Prepare(const uint8_t*) { return {}; }
};

template <>
struct Decoder<DType::kF32> : FloatDecoder<DType::kF32> {
  static HWY_INLINE Group Decode(State, const uint8_t* block, int) {
    return LoadGroup(reinterpret_cast<const float*>(block));
  }
};

template <>
struct Decoder<DType::kF16> : FloatDecoder<DType::kF16> {
  static HWY_INLINE Group Decode(State, const uint8_t* block, int) {
    const auto* p = reinterpret_cast<const hwy::float16_t*>(block);
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const hn::Rebind<hwy::float16_t, DF> d16;
      group.v[v] = hn::PromoteTo(DF(), hn::LoadU(d16, p + v * kLanes));
    }
    return group;
  }
};

template <>
struct Decoder<DType::kBF16> : FloatDecoder<DType::kBF16> {
  static HWY_INLINE Group Decode(State, const uint8_t* block, int) {
    const auto* p = reinterpret_cast<const uint16_t*>(block);
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const VI wide = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<uint16_t, DF>(), p + v * kLanes));
      group.v[v] = hn::BitCast(DF(), hn::ShiftLeft<16>(wide));
    }
    return group;
  }
};

template <>
struct Decoder<DType::kQ8_0> : BlockDecoder<DType::kQ8_0> {
  struct State {
    float scale;
  };
  static HWY_INLINE State Prepare(const uint8_t* block) {
    return {F16ToF32(LoadU16(block + Q8_0Layout::kScale))};
  }
  static HWY_INLINE Group Decode(const State& state, const uint8_t* block, int) {
    const auto* quants = reinterpret_cast<const int8_t*>(block + Q8_0Layout::kQuants);
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const VI q = hn::PromoteTo(DI(), hn::LoadU(hn::Rebind<int8_t, DF>(), quants + v * kLanes));
      group.v[v] = hn::Mul(hn::ConvertTo(DF(), q), hn::Set(DF(), state.scale));
    }
    return group;
  }
};

template <>
struct Decoder<DType::kQ4_0> : BlockDecoder<DType::kQ4_0> {
  struct State {
    float scale;
  };
  static HWY_INLINE State Prepare(const uint8_t* block) {
    return {F16ToF32(LoadU16(block + Q4_0Layout::kScale))};
  }
  static HWY_INLINE VF Value(const State& state, VI nibble) {
    const VI q = hn::Sub(nibble, hn::Set(DI(), Q4_0Layout::kOffset));
    return hn::Mul(hn::ConvertTo(DF(), q), hn::Set(DF(), state.scale));
  }
  static HWY_INLINE Group Decode(const State& state, const uint8_t* block, int) {
    Group group;
    for (int v = 0; v < kVecs / 2; ++v) {
      const VI bytes = LoadBytes(block + Q4_0Layout::kNibbles + v * kLanes);
      group.v[v] = Value(state, hn::And(bytes, hn::Set(DI(), 0xf)));
      group.v[v + kVecs / 2] = Value(state, hn::ShiftRight<4>(bytes));
    }
    return group;
  }
};

// Scales and mins of a Q4_K or Q5_K block, times the block's own.
struct SuperState {
  float scales[kGroupsPerSuper];
  float mins[kGroupsPerSuper];
};

HWY_INLINE SuperState PrepareSuper(const uint8_t* scale, const uint8_t* min_scale,
                                   const uint8_t* packed) {
  const SuperScales unpacked = UnpackSuperScales(packed);
  const float d = F16ToF32(LoadU16(scale)), dmin = F16ToF32(LoadU16(min_scale));
  SuperState state;
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    state.scales[g] = d * static_cast<float>(unpacked.scales[g]);
    state.mins[g] = dmin * static_cast<float>(unpacked.mins[g]);
  }
  return state;
}

template <>
struct Decoder<DType::kQ4_K> : BlockDecoder<DType::kQ4_K> {
  using State = SuperState;
  static HWY_INLINE State Prepare(const uint8_t* block) {
    return PrepareSuper(block + Q4_KLayout::kScale, block + Q4_KLayout::kMinScale,
                        block + Q4_KLayout::kPacked);
  }
  static HWY_INLINE Group Decode(const State& state, const uint8_t* block, int g) {
    const uint8_t* run = block + Q4_KLayout::kNibbles + g / 2 * kGroupElems;
    const VF scale = hn::Set(DF(), state.scales[g]), min = hn::Set(DF(), state.mins[g]);
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const VI q = Bits(LoadBytes(run + v * kLanes), g % 2 * 4, 0xf);
      group.v[v] = hn::MulSub(hn::ConvertTo(DF(), q), scale, min);
    }
    return group;
  }
};

template <>
struct Decoder<DType::kQ5_K> : BlockDecoder<DType::kQ5_K> {
  using State = SuperState;
  static HWY_INLINE State Prepare(const uint8_t* block) {
    return PrepareSuper(block + Q5_KLayout::kScale, block + Q5_KLayout::kMinScale,
                        block + Q5_KLayout::kPacked);
  }
  static HWY_INLINE Group Decode(const State& state, const uint8_t* block, int g) {
    const uint8_t* run = block + Q5_KLayout::kNibbles + g / 2 * kGroupElems;
    const uint8_t* high = block + Q5_KLayout::kHigh;
    const VF scale = hn::Set(DF(), state.scales[g]), min = hn::Set(DF(), state.mins[g]);
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const VI low = Bits(LoadBytes(run + v * kLanes), g % 2 * 4, 0xf);
      const VI fifth = hn::ShiftLeft<4>(Bits(LoadBytes(high + v * kLanes), g, 1));
      group.v[v] = hn::MulSub(hn::ConvertTo(DF(), hn::Or(low, fifth)), scale, min);
    }
    return group;
  }
};

template <>
struct Decoder<DType::kQ6_K> : BlockDecoder<DType::kQ6_K> {
  static constexpr int kScaleElems = 16;  // weights that share a scale
  struct State {
    float scales[kSuperElems / kScaleElems];
  };
  static HWY_INLINE State Prepare(const uint8_t* block) {
    const float d = F16ToF32(LoadU16(block + Q6_KLayout::kScale));
    const auto* scales = reinterpret_cast<const int8_t*>(block + Q6_KLayout::kScales);
    State state;
    for (int i = 0; i < kSuperElems / kScaleElems; ++i) {
      state.scales[i] = d * static_cast<float>(scales[i]);
    }
    return state;
  }
  static HWY_INLINE Group Decode(const State& state, const uint8_t* block, int g) {
    const int half = g / 4, part = g % 4;
    const uint8_t* low = block + Q6_KLayout::kLow + half * 64 + part % 2 * kGroupElems;
    const uint8_t* high = block + Q6_KLayout::kHigh + half * kGroupElems;
    Group group;
    for (int v = 0; v < kVecs; ++v) {
      const VI nibble = Bits(LoadBytes(low + v * kLanes), part / 2 * 4, 0xf);
      const VI pair = hn::ShiftLeft<4>(Bits(LoadBytes(high + v * kLanes), part * 2, 3));
      const VI q = hn::Sub(hn::Or(nibble, pair), hn::Set(DI(), Q6_KLayout::kOffset));
      const float scale = state.scales[(g * kGroupElems + v * kLanes) / kScaleElems];
      group.v[v] = hn::Mul(hn::Set(DF(), scale), hn::ConvertTo(DF(), q));
    }
    return group;
  }
};

// Decodes n elements to out, which has room for n rounded up to 32; the rest becomes 0. n is a
// multiple of the type's block.
template <typename D>
HWY_INLINE void DecodeRun(const uint8_t* row, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + D::kBlockElems <= n; i += D::kBlockElems) {
    const auto state = D::Prepare(row);
    for (int g = 0; g < D::kGroups; ++g) {
      StoreGroup(D::Decode(state, row, g), out + i + g * kGroupElems);
    }
    row += D::kBlockBytes;
  }
  if (i == n) return;
  std::memset(out + i, 0, kGroupElems * sizeof(float));
  DequantizeRow(D::kDType, reinterpret_cast<const std::byte*>(row), n - i, out + i);
}

// Calls fn with the dtype's decoder: the one switch at the entry of an op.
template <typename Fn>
HWY_INLINE void WithDType(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kF32:
      return fn(Decoder<DType::kF32>());
    case DType::kF16:
      return fn(Decoder<DType::kF16>());
    case DType::kBF16:
      return fn(Decoder<DType::kBF16>());
    case DType::kQ8_0:
      return fn(Decoder<DType::kQ8_0>());
    case DType::kQ4_0:
      return fn(Decoder<DType::kQ4_0>());
    case DType::kQ4_K:
      return fn(Decoder<DType::kQ4_K>());
    case DType::kQ5_K:
      return fn(Decoder<DType::kQ5_K>());
    case DType::kQ6_K:
      return fn(Decoder<DType::kQ6_K>());
    case DType::kI32:
      return;  // not a weight type
    case DType::kFp8E4M3:
    case DType::kFp8E5M2:
      return;  // CPUs have none (Device::has_fp8_rows)
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // TC_KERNELS_CPU_DECODE_INL_H_
