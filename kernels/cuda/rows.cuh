// How a warp reads a row of weights: in units of 512, of which each lane holds 16 in registers.
//
// A lane's 16 weights are four quads of four consecutive columns, so that activations load as
// vectors. Float rows are read 16 bytes per lane at a time. Quantised rows have the layout of
// kernels/lanes.h, which was made for this: a unit's quants are transposed, so that the dwords of
// neighbouring lanes are neighbours in memory, and its scales lie beside one another. Every load of
// a whole unit by a warp is one or two runs of consecutive bytes.
#pragma once

#include "base/dtype.h"
#include "kernels/cuda/simt.cuh"
#include "kernels/fp8.h"
#include "kernels/lanes.h"

namespace thermocline::kernels::cuda::TC_SIMT {

inline constexpr int kLaneElems = kUnitElems / kWarp;
inline constexpr int kQuads = kLaneElems / 4;

// A whole unit of rounded activations: dword u of block j at 4 * (16 u + j), then 16 F32 scales.
inline constexpr int kByteUnitBytes = kUnitElems + 4 * kUnitLanes;

template <DType kType>
inline constexpr int kUnitBytes = IsFloat(kType)
                                      ? kUnitElems* static_cast<int>(Traits(kType).block_bytes)
                                      : UnitLayout::Of(kType, kUnitLanes).n_bytes;

// What a row's address must be a multiple of for Load: the widest load, or where units of an odd
// size begin.
template <DType kType>
inline constexpr int kRowAlign = IsFloat(kType) || kType == DType::kQ8_0 || IsFp8(kType) ? 16
                                 : kType == DType::kQ6_K                                 ? 4
                                                                                         : 8;

// A dword at any even address.
TC_DEVICE uint32_t LoadHalves(const std::byte* p) {
  return Load2(p) | static_cast<uint32_t>(Load2(p + 2)) << 16;
}
TC_DEVICE uint32_t LoadByte(const std::byte* p) { return static_cast<uint32_t>(*p); }

// Byte i of q as a float: its bits below those of 2^23.
TC_DEVICE float ByteToFloat(uint32_t q, int i) {
  return BitsToFloat(0x4b000000u | ((q >> (8 * i)) & 0xffu)) - 8388608.0f;
}

// ---- Float rows.

template <DType kType>
struct FloatUnit {
  static constexpr int kElemBytes = static_cast<int>(Traits(kType).block_bytes);
  static constexpr int kPerLoad = 16 / kElemBytes;
  static constexpr int kLoads = kLaneElems / kPerLoad;
  Dwords<4> raw[kLoads];

  static TC_DEVICE int QuadColumn(int lane, int quad) {
    const int load = quad * 4 / kPerLoad;
    return load * kPerLoad * kWarp + lane * kPerLoad + quad * 4 % kPerLoad;
  }
  static TC_DEVICE FloatUnit Load(const std::byte* unit, int lane) {
    FloatUnit packet;
    TC_UNROLL for (int i = 0; i < kLoads; ++i) {
      packet.raw[i] = Load16(unit + 16 * (i * kWarp + lane));
    }
    return packet;
  }
  // Of the last unit, or at any address: 0 beyond n_elems.
  static TC_DEVICE FloatUnit LoadPart(const std::byte* unit, int n_elems, int lane) {
    FloatUnit packet = {};
    TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
      const int column = QuadColumn(lane, k / 4) + k % 4;
      if (column >= n_elems) continue;
      if constexpr (kElemBytes == 4) {
        packet.raw[k / 4].v[k % 4] = Load4(unit + 4 * column);
      } else {
        packet.raw[k / 8].v[k % 8 / 2] |= static_cast<uint32_t>(Load2(unit + 2 * column))
                                          << (k % 2 * 16);
      }
    }
    return packet;
  }
  TC_DEVICE void Decode(int, float (&w)[kLaneElems]) const {
    TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
      if constexpr (kElemBytes == 4) {
        w[k] = BitsToFloat(raw[k / 4].v[k % 4]);
      } else {
        const uint32_t bits = (raw[k / 8].v[k % 8 / 2] >> (k % 2 * 16)) & 0xffffu;
        w[k] =
            kType == DType::kF16 ? HalfToFloat(static_cast<uint16_t>(bits)) : BF16BitsToFloat(bits);
      }
    }
  }
};

// ---- Quantised rows.

// A lane's activations of a unit, rounded: the quads of its weights and the scales of their blocks.
struct ByteQuads {
  uint32_t q[kQuads];
  float d[kQuads];
};

TC_DEVICE int QuadSum(uint32_t q) { return Dp4a(q, 0x01010101u, 0); }

// Q8_0: lane l has dword l / 4 of four blocks; quad k is that of block 4 * (l % 4) + k.
struct Q8Unit {
  Dwords<4> quants;
  Dwords<2> halves;

  static TC_DEVICE int Dword(int lane) { return lane / 4; }
  static TC_DEVICE int Block(int lane) { return lane % 4 * 4; }
  static TC_DEVICE int QuadColumn(int lane, int quad) {
    return (Block(lane) + quad) * kGroupElems + Dword(lane) * kLaneStep;
  }
  static TC_DEVICE Q8Unit Load(const std::byte* unit, int lane) {
    return {Load16(unit + 16 * lane), Load8(unit + kUnitElems + 2 * Block(lane))};
  }
  static TC_DEVICE Q8Unit LoadPart(const std::byte* unit, int n_elems, int lane) {
    const int n_blocks = n_elems / kGroupElems;
    Q8Unit packet = {};
    TC_UNROLL for (int k = 0; k < kQuads; ++k) {
      const int block = Block(lane) + k;
      if (block >= n_blocks) continue;
      packet.quants.v[k] = LoadHalves(unit + 4 * (Dword(lane) * n_blocks + block));
      packet.halves.v[k / 2] |=
          static_cast<uint32_t>(Load2(unit + kGroupElems * n_blocks + 2 * block)) << (k % 2 * 16);
    }
    return packet;
  }
  static TC_DEVICE ByteQuads LoadBytes(const std::byte* x_unit, int lane) {
    const Dwords<4> q = Load16(x_unit + 16 * lane);
    const Dwords<4> d = Load16(x_unit + kUnitElems + 4 * Block(lane));
    ByteQuads quads;
    TC_UNROLL for (int k = 0; k < kQuads; ++k) {
      quads.q[k] = q.v[k];
      quads.d[k] = BitsToFloat(d.v[k]);
    }
    return quads;
  }

  TC_DEVICE float Scale(int block) const {
    return HalfToFloat(static_cast<uint16_t>(halves.v[block / 2] >> (block % 2 * 16)));
  }
  TC_DEVICE void Decode(int, float (&w)[kLaneElems]) const {
    TC_UNROLL for (int k = 0; k < kLaneElems; ++k) {
      const float q = ByteToFloat(quants.v[k / 4] ^ 0x80808080u, k % 4) - 128.0f;
      w[k] = Scale(k / 4) * q;
    }
  }
  TC_DEVICE float Dot(int, const ByteQuads& x, float sum) const {
    TC_UNROLL for (int k = 0; k < kQuads; ++k) {
      sum = Fma(Scale(k) * x.d[k], static_cast<float>(Dp4a(quants.v[k], x.q[k], 0)), sum);
    }
    return sum;
  }
};

// FP8: as Q8_0, with a float in each byte. The codes are finite, as packing leaves them.
template <DType kType>
struct Fp8Unit {
  static constexpr bool kIsE4M3 = kType == DType::kFp8E4M3;
  Q8Unit codes;

  static TC_DEVICE int QuadColumn(int lane, int quad) { return Q8Unit::QuadColumn(lane, quad); }
  static TC_DEVICE Fp8Unit Load(const std::byte* unit, int lane) {
    return {Q8Unit::Load(unit, lane)};
  }
  static TC_DEVICE Fp8Unit LoadPart(const std::byte* unit, int n_elems, int lane) {
    return {Q8Unit::LoadPart(unit, n_elems, lane)};
  }
  // Rounded once, as the reference's: powers of two scale exactly.
  TC_DEVICE void Decode(int, float (&w)[kLaneElems]) const {
    TC_UNROLL for (int k = 0; k < kQuads; ++k) {
      const float scale = kIsE4M3 ? codes.Scale(k) * kE4M3OfHalf : codes.Scale(k);
      TC_UNROLL for (int i = 0; i < 4; ++i) {
        const uint32_t code = (codes.quants.v[k] >> (8 * i)) & 0xffu;
        w[4 * k + i] = scale * HalfToFloat(kIsE4M3 ? HalfOfE4M3(code) : HalfOfE5M2(code));
      }
    }
  }
};

// The types of nibbles: lane l has dword u = l / 8 of blocks j and j + 1, j = 2 * (l % 8). Quads 0
// and 1 are their low nibbles, weights 4u .., quads 2 and 3 the high ones, weights 16 + 4u ...
template <DType kType>
struct NibbleUnit {
  static constexpr bool kIsK = kType == DType::kQ4_K || kType == DType::kQ5_K;
  static constexpr bool kIsQ5 = kType == DType::kQ5_K;
  static constexpr bool kIsQ6 = kType == DType::kQ6_K;

  uint32_t nibbles[2];
  uint32_t high[kIsQ6 ? 4 : kIsQ5 ? 2 : 1];  // Q5_K: per block; Q6_K: two per block, h then block
  uint32_t scales;  // Q4_0: two halves; K: a byte per block; Q6_K: bytes of weights 0-15, 16-31
  uint32_t mins;    // K: the nibbles of the super-block
  uint32_t halves;  // K: d and dmin; Q6_K: d

  static TC_DEVICE int Dword(int lane) { return lane / 8; }
  static TC_DEVICE int Block(int lane) { return lane % 8 * 2; }
  static TC_DEVICE int QuadColumn(int lane, int quad) {
    return (Block(lane) + quad % 2) * kGroupElems + (Dword(lane) + quad / 2 * 4) * kLaneStep;
  }

  // Two neighbouring dwords; units of Q6_K begin at multiples of 4 only.
  static TC_DEVICE void LoadPair(const std::byte* p, uint32_t* pair) {
    if constexpr (kIsQ6) {
      pair[0] = Load4(p);
      pair[1] = Load4(p + 4);
    } else {
      const Dwords<2> both = Load8(p);
      pair[0] = both.v[0];
      pair[1] = both.v[1];
    }
  }
  static TC_DEVICE NibbleUnit Load(const std::byte* unit, int lane) {
    constexpr UnitLayout at = UnitLayout::Of(kType, kUnitLanes);
    const int j = Block(lane);
    NibbleUnit packet = {};
    LoadPair(unit + 4 * (Dword(lane) * kUnitLanes + j), packet.nibbles);
    if constexpr (kType == DType::kQ4_0) packet.scales = Load4(unit + at.scales + 2 * j);
    if constexpr (kIsQ5) LoadPair(unit + at.high + 4 * j, packet.high);
    if constexpr (kIsK) {
      const std::byte* const scales = unit + at.scales;
      packet.scales = Load2(scales + j);
      packet.mins = Load4(scales + SuperLayout::Nibbles(kUnitLanes) + j / 8 * 4);
      packet.halves = Load4(scales + SuperLayout::Halves(kUnitLanes) + j / 8 * 4);
    }
    if constexpr (kIsQ6) {
      LoadPair(unit + at.high + 4 * j, packet.high);
      LoadPair(unit + at.high + 4 * (kUnitLanes + j), packet.high + 2);
      packet.scales = Load2(unit + at.scales + j) |
                      static_cast<uint32_t>(Load2(unit + at.scales + kUnitLanes + j)) << 16;
      packet.halves = Load2(unit + at.super_scale + j / 8 * 2);
    }
    return packet;
  }
  // Of the last unit, or at any address: blocks that it lacks are 0. K types have 8 or 16 blocks.
  static TC_DEVICE NibbleUnit LoadPart(const std::byte* unit, int n_elems, int lane) {
    const int n = n_elems / kGroupElems;
    const UnitLayout at = UnitLayout::Of(kType, n);
    NibbleUnit packet = {};
    TC_UNROLL for (int b = 0; b < 2; ++b) {
      const int j = Block(lane) + b;
      if (j >= n) continue;
      packet.nibbles[b] = LoadHalves(unit + 4 * (Dword(lane) * n + j));
      if constexpr (kType == DType::kQ4_0) {
        packet.scales |= static_cast<uint32_t>(Load2(unit + at.scales + 2 * j)) << (16 * b);
      } else {
        packet.scales |= LoadByte(unit + at.scales + j) << (8 * b);
      }
      if constexpr (kIsQ5) packet.high[b] = LoadHalves(unit + at.high + 4 * j);
      if constexpr (kIsK) {
        packet.mins = LoadHalves(unit + at.scales + SuperLayout::Nibbles(n) + j / 8 * 4);
        packet.halves = LoadHalves(unit + at.scales + SuperLayout::Halves(n) + j / 8 * 4);
      }
      if constexpr (kIsQ6) {
        packet.high[b] = LoadHalves(unit + at.high + 4 * j);
        packet.high[2 + b] = LoadHalves(unit + at.high + 4 * (n + j));
        packet.scales |= LoadByte(unit + at.scales + n + j) << (16 + 8 * b);
        packet.halves = Load2(unit + at.super_scale + j / 8 * 2);
      }
    }
    return packet;
  }
  static TC_DEVICE ByteQuads LoadBytes(const std::byte* x_unit, int lane) {
    const int u = Dword(lane), j = Block(lane);
    const Dwords<2> low = Load8(x_unit + 4 * (u * kUnitLanes + j));
    const Dwords<2> high = Load8(x_unit + 4 * ((u + 4) * kUnitLanes + j));
    const Dwords<2> d = Load8(x_unit + kUnitElems + 4 * j);
    const float d0 = BitsToFloat(d.v[0]), d1 = BitsToFloat(d.v[1]);
    return {{low.v[0], low.v[1], high.v[0], high.v[1]}, {d0, d1, d0, d1}};
  }

  // The quants of quad k as bytes.
  TC_DEVICE uint32_t Quad(int lane, int k) const {
    const int b = k % 2, u = Dword(lane);
    uint32_t q = (nibbles[b] >> (k / 2 * 4)) & 0x0f0f0f0fu;
    if constexpr (kIsQ5) q |= ((high[b] >> (u + k / 2 * 4)) & 0x01010101u) << 4;
    if constexpr (kIsQ6) q |= ((high[k / 2 * 2 + b] >> (2 * u)) & 0x03030303u) << 4;
    return q;
  }
  TC_DEVICE float Half(int i) const {
    return HalfToFloat(
        static_cast<uint16_t>((kType == DType::kQ4_0 ? scales : halves) >> (16 * i)));
  }
  // K types: the 6-bit scale and minimum of block b of the lane's two.
  TC_DEVICE int SixBitScale(int b) const { return static_cast<int>((scales >> (8 * b)) & 0x3fu); }
  TC_DEVICE int SixBitMin(int lane, int b) const {
    const int nibble = (Block(lane) + b) % 8;
    return static_cast<int>(((mins >> (4 * nibble)) & 0xfu) | ((scales >> (8 * b + 6)) & 3u) << 4);
  }
  // Q6_K: the scale of quad k.
  TC_DEVICE int SubScale(int k) const {
    return static_cast<int8_t>(scales >> (16 * (k / 2) + 8 * (k % 2)));
  }

  // w = scale * q - min, rounded once: products of halves and small integers are exact.
  TC_DEVICE float QuadScale(int k) const {
    if constexpr (kType == DType::kQ4_0) return Half(k % 2);
    if constexpr (kIsQ6) return Half(0) * static_cast<float>(SubScale(k));
    return Half(0) * static_cast<float>(SixBitScale(k % 2));
  }
  TC_DEVICE float QuadMin(int lane, int k) const {
    if constexpr (kType == DType::kQ4_0) return QuadScale(k) * float{Q4_0Layout::kOffset};
    if constexpr (kIsQ6) return QuadScale(k) * float{Q6_KLayout::kOffset};
    return Half(1) * static_cast<float>(SixBitMin(lane, k % 2));
  }
  TC_DEVICE void Decode(int lane, float (&w)[kLaneElems]) const {
    TC_UNROLL for (int k = 0; k < kQuads; ++k) {
      const uint32_t q = Quad(lane, k);
      const float scale = QuadScale(k), min = QuadMin(lane, k);
      TC_UNROLL for (int i = 0; i < 4; ++i) w[4 * k + i] = Fma(scale, ByteToFloat(q, i), -min);
    }
  }

  // The products of a block, two quads of it, in integers; then one multiply-add in F32 (two where
  // a type has minima).
  TC_DEVICE float Dot(int lane, const ByteQuads& x, float sum) const {
    TC_UNROLL for (int b = 0; b < 2; ++b) {
      const uint32_t low = Quad(lane, b), high_quad = Quad(lane, b + 2);
      if constexpr (kIsQ6) {
        const int of_low = Dp4a(low, x.q[b], 0) - Q6_KLayout::kOffset * QuadSum(x.q[b]);
        const int of_high =
            Dp4a(high_quad, x.q[b + 2], 0) - Q6_KLayout::kOffset * QuadSum(x.q[b + 2]);
        const int both = SubScale(b) * of_low + SubScale(b + 2) * of_high;
        sum = Fma(Half(0) * x.d[b], static_cast<float>(both), sum);
        continue;
      }
      const int products = Dp4a(high_quad, x.q[b + 2], Dp4a(low, x.q[b], 0));
      const int quants = QuadSum(x.q[b]) + QuadSum(x.q[b + 2]);
      if constexpr (kType == DType::kQ4_0) {
        const int both = products - Q4_0Layout::kOffset * quants;
        sum = Fma(Half(b) * x.d[b], static_cast<float>(both), sum);
      } else {
        sum = Fma(QuadScale(b) * x.d[b], static_cast<float>(products), sum);
        sum = Fma(-QuadMin(lane, b) * x.d[b], static_cast<float>(quants), sum);
      }
    }
    return sum;
  }
};

template <DType kType>
struct UnitOf {
  using Type = NibbleUnit<kType>;
};
template <>
struct UnitOf<DType::kF32> {
  using Type = FloatUnit<DType::kF32>;
};
template <>
struct UnitOf<DType::kF16> {
  using Type = FloatUnit<DType::kF16>;
};
template <>
struct UnitOf<DType::kBF16> {
  using Type = FloatUnit<DType::kBF16>;
};
template <>
struct UnitOf<DType::kQ8_0> {
  using Type = Q8Unit;
};
template <>
struct UnitOf<DType::kFp8E4M3> {
  using Type = Fp8Unit<DType::kFp8E4M3>;
};
template <>
struct UnitOf<DType::kFp8E5M2> {
  using Type = Fp8Unit<DType::kFp8E5M2>;
};

// Calls fn.template operator()<type>() with the dtype as a constant.
template <typename Fn>
void ForType(DType dtype, Fn fn) {
  switch (dtype) {
    case DType::kF32:
      return fn.template operator()<DType::kF32>();
    case DType::kF16:
      return fn.template operator()<DType::kF16>();
    case DType::kBF16:
      return fn.template operator()<DType::kBF16>();
    case DType::kQ8_0:
      return fn.template operator()<DType::kQ8_0>();
    case DType::kQ4_0:
      return fn.template operator()<DType::kQ4_0>();
    case DType::kQ4_K:
      return fn.template operator()<DType::kQ4_K>();
    case DType::kQ5_K:
      return fn.template operator()<DType::kQ5_K>();
    case DType::kQ6_K:
      return fn.template operator()<DType::kQ6_K>();
    case DType::kFp8E4M3:
      return fn.template operator()<DType::kFp8E4M3>();
    case DType::kFp8E5M2:
      return fn.template operator()<DType::kFp8E5M2>();
    case DType::kI32:
      CHECK(dtype != DType::kI32);  // no weights
  }
}

// Whether every row of w begins where Load may read.
template <DType kType>
bool HasAlignedRows(const TensorView& w) {
  return (reinterpret_cast<uintptr_t>(w.data) | static_cast<uintptr_t>(w.row_stride_bytes)) %
             kRowAlign<kType> ==
         0;
}

}  // namespace thermocline::kernels::cuda::TC_SIMT
