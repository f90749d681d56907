// Re-arranging rows by way of plain quants: one reader per type of the file's blocks, one writer
// and one reader per type of a unit.
#include "kernels/lanes.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "kernels/device.h"
#include "kernels/fp8.h"
#include "kernels/quantize.h"

namespace thermocline::kernels {
namespace {

// Types whose quants, or codes, are a byte each.
constexpr bool HasByteQuants(DType dtype) { return dtype == DType::kQ8_0 || IsFp8(dtype); }

// The quants of one block of 32 weights, as stored: unsigned, but int8 for Q8_0 and codes for FP8.
using Quants = std::array<uint8_t, kGroupElems>;

// The quants of block `b` of a row in the file's layout.
template <DType kType>
Quants FileQuants(const uint8_t* row, int64_t b) {
  constexpr int64_t kBlockElems = Traits(kType).block_elems;
  const uint8_t* block = row + b * kGroupElems / kBlockElems * Traits(kType).block_bytes;
  const int g = static_cast<int>(b % (kBlockElems / kGroupElems));
  Quants quants;
  for (int i = 0; i < kGroupElems; ++i) {
    uint8_t& q = quants[static_cast<size_t>(i)];
    if constexpr (HasByteQuants(kType)) {
      q = block[Q8_0Layout::kQuants + i];
    } else if constexpr (kType == DType::kQ4_0) {
      q = (block[Q4_0Layout::kNibbles + i % 16] >> (i / 16 * 4)) & 0xf;
    } else if constexpr (kType == DType::kQ4_K) {
      q = (block[Q4_KLayout::kNibbles + g / 2 * 32 + i] >> (g % 2 * 4)) & 0xf;
    } else if constexpr (kType == DType::kQ5_K) {
      q = static_cast<uint8_t>(
          ((block[Q5_KLayout::kNibbles + g / 2 * 32 + i] >> (g % 2 * 4)) & 0xf) |
          (((block[Q5_KLayout::kHigh + i] >> g) & 1) << 4));
    } else {
      static_assert(kType == DType::kQ6_K);
      const int half = g / 4, part = g % 4;
      const uint8_t low = block[Q6_KLayout::kLow + half * 64 + part % 2 * 32 + i];
      const uint8_t high = block[Q6_KLayout::kHigh + half * 32 + i];
      q = static_cast<uint8_t>(((low >> (part / 2 * 4)) & 0xf) | (((high >> (part * 2)) & 3) << 4));
    }
  }
  return quants;
}

// Stores 16 low nibbles below 16 high ones, four bytes to each dword of the lane.
void WriteNibbles(const Quants& quants, int lane, int n_lanes, uint8_t* unit) {
  uint8_t bytes[kGroupElems / 2];
  for (size_t i = 0; i < sizeof bytes; ++i) {
    bytes[i] = static_cast<uint8_t>((quants[i] & 0xf) | (quants[i + 16] << 4));
  }
  for (int u = 0; u < 4; ++u) std::memcpy(unit + 4 * (u * n_lanes + lane), bytes + 4 * u, 4);
}

// Stores the upper bits of each quant, `kBits` of them: byte c of a dword holds those of weights c,
// 4 + c, 8 + c, ...
template <int kBits>
void WriteHighBits(const Quants& quants, int lane, int n_lanes, uint8_t* high) {
  constexpr int kPerByte = 8 / kBits;
  for (int h = 0; h < kDwordsPerBlock / kPerByte; ++h) {
    uint8_t bytes[kLaneStep] = {};
    for (int t = 0; t < kPerByte; ++t) {
      for (int c = 0; c < kLaneStep; ++c) {
        const uint8_t q = quants[static_cast<size_t>((h * kPerByte + t) * kLaneStep + c)];
        bytes[c] |= static_cast<uint8_t>((q >> 4) << (t * kBits));
      }
    }
    std::memcpy(high + 4 * (h * n_lanes + lane), bytes, kLaneStep);
  }
}

template <DType kType>
void WriteQuants(const Quants& quants, int lane, int n_lanes, uint8_t* unit) {
  const UnitLayout at = UnitLayout::Of(kType, n_lanes);
  if constexpr (HasByteQuants(kType)) {
    for (int t = 0; t < kDwordsPerBlock; ++t) {
      std::memcpy(unit + 4 * (t * n_lanes + lane), quants.data() + t * kLaneStep, kLaneStep);
    }
  } else {
    WriteNibbles(quants, lane, n_lanes, unit + at.quants);
    if constexpr (kType == DType::kQ5_K) WriteHighBits<1>(quants, lane, n_lanes, unit + at.high);
    if constexpr (kType == DType::kQ6_K) WriteHighBits<2>(quants, lane, n_lanes, unit + at.high);
  }
}

Quants UnitQuants(DType dtype, const uint8_t* unit, int lane, int n_lanes) {
  const UnitLayout at = UnitLayout::Of(dtype, n_lanes);
  Quants quants;
  for (int i = 0; i < kGroupElems; ++i) {
    const int t = i / kLaneStep, c = i % kLaneStep;
    if (HasByteQuants(dtype)) {
      quants[static_cast<size_t>(i)] = unit[4 * (t * n_lanes + lane) + c];
      continue;
    }
    int q = (unit[at.quants + 4 * (t % 4 * n_lanes + lane) + c] >> (t / 4 * 4)) & 0xf;
    if (dtype == DType::kQ5_K) q |= ((unit[at.high + 4 * lane + c] >> t) & 1) << 4;
    if (dtype == DType::kQ6_K) {
      q |= ((unit[at.high + 4 * (t / 4 * n_lanes + lane) + c] >> (t % 4 * 2)) & 3) << 4;
    }
    quants[static_cast<size_t>(i)] = static_cast<uint8_t>(q);
  }
  return quants;
}

// The scales of a Q4_K or Q5_K block of the file, the unit's super-block `s`, as SuperLayout says.
void WriteSuperScales(const uint8_t* block, int s, int n_lanes, uint8_t* scales) {
  static_assert(Q4_KLayout::kPacked == Q5_KLayout::kPacked);
  const SuperScales unpacked = UnpackSuperScales(block + Q4_KLayout::kPacked);
  uint32_t nibbles = 0;
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    const int min = unpacked.mins[g];
    scales[s * kGroupsPerSuper + g] = static_cast<uint8_t>(unpacked.scales[g] | (min >> 4 << 6));
    nibbles |= static_cast<uint32_t>(min & 0xf) << (4 * g);
  }
  std::memcpy(scales + SuperLayout::Nibbles(n_lanes) + 4 * s, &nibbles, 4);
  uint8_t* halves = scales + SuperLayout::Halves(n_lanes) + 4 * s;
  std::memcpy(halves, block + Q4_KLayout::kScale, 2);
  std::memcpy(halves + 2, block + Q4_KLayout::kMinScale, 2);
}

// Scales of `n_lanes` blocks from block b0 of the file's row on.
void WriteScales(DType dtype, const uint8_t* row, int64_t b0, int n_lanes, uint8_t* unit) {
  const UnitLayout at = UnitLayout::Of(dtype, n_lanes);
  const auto block_bytes = static_cast<int64_t>(Traits(dtype).block_bytes);
  if (HasByteQuants(dtype) || dtype == DType::kQ4_0) {
    for (int j = 0; j < n_lanes; ++j) {
      std::memcpy(unit + at.scales + 2 * j, row + (b0 + j) * block_bytes, 2);
    }
    return;
  }
  for (int s = 0; s < n_lanes / kGroupsPerSuper; ++s) {
    const uint8_t* block = row + (b0 / kGroupsPerSuper + s) * block_bytes;
    if (dtype == DType::kQ6_K) {
      for (int g = 0; g < kGroupsPerSuper; ++g) {
        const int lane = s * kGroupsPerSuper + g;
        unit[at.scales + lane] = block[Q6_KLayout::kScales + 2 * g];
        unit[at.scales + n_lanes + lane] = block[Q6_KLayout::kScales + 2 * g + 1];
      }
      std::memcpy(unit + at.super_scale + 2 * s, block + Q6_KLayout::kScale, 2);
      continue;
    }
    WriteSuperScales(block, s, n_lanes, unit + at.scales);
  }
}

float HalfAt(const uint8_t* bytes) { return F16ToF32(LoadU16(bytes)); }

// The scale and the min of a lane of a Q4_K or Q5_K unit.
struct SuperScale {
  float scale, min;
};

SuperScale SuperScaleOf(const uint8_t* scales, int lane, int n_lanes) {
  const int s = lane / kGroupsPerSuper, g = lane % kGroupsPerSuper;
  const uint8_t* halves = scales + SuperLayout::Halves(n_lanes) + 4 * s;
  const uint32_t nibbles = LoadU32(scales + SuperLayout::Nibbles(n_lanes) + 4 * s);
  const int min = (scales[lane] >> 6 << 4) | static_cast<int>((nibbles >> (4 * g)) & 0xf);
  return {HalfAt(halves) * static_cast<float>(scales[lane] & 0x3f),
          HalfAt(halves + 2) * static_cast<float>(min)};
}

// The 32 weights of one lane, with the products in the order that DequantizeRow has them.
void DequantizeLane(DType dtype, const uint8_t* unit, int lane, int n_lanes, float* out) {
  const UnitLayout at = UnitLayout::Of(dtype, n_lanes);
  const Quants quants = UnitQuants(dtype, unit, lane, n_lanes);
  for (int i = 0; i < kGroupElems; ++i) {
    const uint8_t q = quants[static_cast<size_t>(i)];
    switch (dtype) {
      case DType::kQ8_0:
        out[i] = HalfAt(unit + at.scales + 2 * lane) * static_cast<float>(static_cast<int8_t>(q));
        break;
      case DType::kFp8E4M3:
        out[i] = HalfAt(unit + at.scales + 2 * lane) * DecodeE4M3(q);
        break;
      case DType::kFp8E5M2:
        out[i] = HalfAt(unit + at.scales + 2 * lane) * DecodeE5M2(q);
        break;
      case DType::kQ4_0:
        out[i] = HalfAt(unit + at.scales + 2 * lane) * static_cast<float>(q - Q4_0Layout::kOffset);
        break;
      case DType::kQ4_K:
      case DType::kQ5_K: {
        const SuperScale super = SuperScaleOf(unit + at.scales, lane, n_lanes);
        out[i] = super.scale * static_cast<float>(q) - super.min;
        break;
      }
      case DType::kQ6_K: {
        const auto scale =
            static_cast<int8_t>(unit[at.scales + i / kSubScaleElems * n_lanes + lane]);
        out[i] = HalfAt(unit + at.super_scale + lane / kGroupsPerSuper * 2) *
                 static_cast<float>(scale) * static_cast<float>(q - Q6_KLayout::kOffset);
        break;
      }
      default:
        break;
    }
  }
}

// Calls fn(unit index, first block, lanes) for the units of a row.
template <typename Fn>
void ForEachUnit(int64_t n_elems, Fn fn) {
  const int64_t n_blocks = n_elems / kGroupElems;
  for (int64_t b = 0; b < n_blocks; b += kUnitLanes) {
    fn(b, static_cast<int>(std::min<int64_t>(kUnitLanes, n_blocks - b)));
  }
}

template <DType kType>
void PackUnits(const uint8_t* row, int64_t n_elems, uint8_t* unit) {
  ForEachUnit(n_elems, [&](int64_t b0, int n_lanes) {
    for (int lane = 0; lane < n_lanes; ++lane) {
      WriteQuants<kType>(FileQuants<kType>(row, b0 + lane), lane, n_lanes, unit);
    }
    WriteScales(kType, row, b0, n_lanes, unit);
    unit += UnitLayout::Of(kType, n_lanes).n_bytes;
  });
}

// Blocks of a row of `to`, in the file's layout, in its own.
void StoreBlocks(const TensorView& to, const std::byte* blocks, int64_t n_elems, std::byte* out) {
  if (to.layout == RowLayout::kLanes) {
    PackLanesRow(to.dtype, blocks, n_elems, out);
  } else {
    std::memcpy(out, blocks, RowBytes(to.dtype, static_cast<uint64_t>(n_elems)));
  }
}

}  // namespace

void PackLanesRow(DType dtype, const std::byte* row, int64_t n_elems, std::byte* packed) {
  const auto* file = reinterpret_cast<const uint8_t*>(row);
  auto* unit = reinterpret_cast<uint8_t*>(packed);
  switch (dtype) {
    case DType::kQ8_0:
      return PackUnits<DType::kQ8_0>(file, n_elems, unit);
    case DType::kQ4_0:
      return PackUnits<DType::kQ4_0>(file, n_elems, unit);
    case DType::kQ4_K:
      return PackUnits<DType::kQ4_K>(file, n_elems, unit);
    case DType::kQ5_K:
      return PackUnits<DType::kQ5_K>(file, n_elems, unit);
    case DType::kQ6_K:
      return PackUnits<DType::kQ6_K>(file, n_elems, unit);
    case DType::kFp8E4M3:
      return PackUnits<DType::kFp8E4M3>(file, n_elems, unit);
    case DType::kFp8E5M2:
      return PackUnits<DType::kFp8E5M2>(file, n_elems, unit);
    default:
      DCHECK(false);  // float types have no lanes
  }
}

bool PackRow(const TensorView& from, int64_t i, const TensorView& to) {
  const std::byte* row = from.row(i);
  if (!IsFiniteRow(from.dtype, row, from.n_cols)) return false;
  if (from.dtype == to.dtype) {
    StoreBlocks(to, row, to.n_cols, to.row(i));
    return true;
  }
  // Unit by unit, each of which takes the bytes that its blocks take.
  std::array<std::byte, kUnitElems * sizeof(float)> encoded;
  std::byte* out = to.row(i);
  for (int64_t begin = 0; begin < to.n_cols; begin += kUnitElems) {
    const int64_t n = std::min<int64_t>(kUnitElems, to.n_cols - begin);
    QuantizeRow(to.dtype, {from.f32_row(i) + begin, static_cast<size_t>(n)}, encoded.data());
    if (!IsFiniteRow(to.dtype, encoded.data(), n)) return false;
    StoreBlocks(to, encoded.data(), n, out);
    out += RowBytes(to.dtype, static_cast<uint64_t>(n));
  }
  return true;
}

void DequantizeLanesRow(DType dtype, const std::byte* packed, int64_t n_elems, float* out) {
  const auto* unit = reinterpret_cast<const uint8_t*>(packed);
  ForEachUnit(n_elems, [&](int64_t b0, int n_lanes) {
    for (int lane = 0; lane < n_lanes; ++lane) {
      DequantizeLane(dtype, unit, lane, n_lanes, out + (b0 + lane) * kGroupElems);
    }
    unit += UnitLayout::Of(dtype, n_lanes).n_bytes;
  });
}

}  // namespace thermocline::kernels
