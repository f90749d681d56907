#include "kernels/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/half.h"
#include "kernels/blocks.h"
#include "kernels/fp8.h"
#include "kernels/quantize_fit.h"

namespace thermocline::kernels {
namespace {

using Group = std::span<const float>;

void StoreHalf(uint8_t* to, uint16_t half) { std::memcpy(to, &half, sizeof half); }

// Scales are used as they are stored, so that q makes up for their rounding.
float StoreScale(uint8_t* to, float scale) {
  const uint16_t half = F32ToF16(scale);
  StoreHalf(to, half);
  return F16ToF32(half);
}

float Inverse(float scale) { return scale != 0 && std::isfinite(scale) ? 1 / scale : 0; }

float MaxMagnitude(Group w) {
  float most = 0;
  for (const float v : w) most = std::max(most, std::fabs(v));
  return most;
}

void EncodeQ8_0(Group w, uint8_t* block) {
  const float d = StoreScale(block + Q8_0Layout::kScale, MaxMagnitude(w) / 127);
  const float inverse = Inverse(d);
  for (int i = 0; i < kGroupElems; ++i) {
    const float q = RoundNearest(Clamp(w[i] * inverse, -127, 127));
    block[Q8_0Layout::kQuants + i] = static_cast<uint8_t>(static_cast<int8_t>(q));
  }
}

// Powers of two that F16 has.
constexpr int kLeastPower = -24, kMostPower = 15;

// The least power with which `most` is no more than the largest code, of those that F16 has; more
// than all of them where it has none.
template <typename Format>
int Fp8ScalePower(float most) {
  if (most == 0) return kLeastPower;
  if (!std::isfinite(most)) return kMostPower + 1;
  int of_most = 0, of_largest = 0;
  const float mantissa = std::frexp(most, &of_most);
  const float largest = std::frexp(Format::kMaxValue, &of_largest);
  return std::max(kLeastPower, of_most - of_largest + (mantissa > largest ? 1 : 0));
}

// Infinite where F16 has no power that is large enough.
template <typename Format>
void EncodeFp8Block(Group w, uint8_t* block) {
  const int power = Fp8ScalePower<Format>(MaxMagnitude(w));
  const bool is_beyond = power > kMostPower;
  StoreScale(block + Fp8Layout::kScale,
             is_beyond ? std::numeric_limits<float>::infinity() : std::ldexp(1.0f, power));
  const float inverse = is_beyond ? 0 : std::ldexp(1.0f, -power);
  for (size_t i = 0; i < w.size(); ++i) {
    block[Fp8Layout::kQuants + i] = EncodeFp8<Format>(w[i] * inverse);
  }
}

void EncodeQ4_0(Group w, uint8_t* block) {
  constexpr float kLevels = Q4_0Layout::kOffset;
  const float d = StoreScale(block + Q4_0Layout::kScale, FitScale(w, Q4_0Layout::kOffset));
  const float inverse = Inverse(d);
  uint8_t q[kGroupElems];
  for (int i = 0; i < kGroupElems; ++i) {
    q[i] =
        static_cast<uint8_t>(RoundNearest(Clamp(w[i] * inverse, -kLevels, kLevels - 1)) + kLevels);
  }
  for (int i = 0; i < kGroupElems / 2; ++i) {
    block[Q4_0Layout::kNibbles + i] = static_cast<uint8_t>(q[i] | (q[i + kGroupElems / 2] << 4));
  }
}

// The other direction of UnpackSuperScales.
void PackSuperScales(const SuperScales& unpacked, uint8_t* bytes) {
  for (int g = 0; g < 4; ++g) {
    const uint8_t scale = unpacked.scales[g + 4], min = unpacked.mins[g + 4];
    bytes[g] = static_cast<uint8_t>(unpacked.scales[g] | ((scale >> 4) << 6));
    bytes[g + 4] = static_cast<uint8_t>(unpacked.mins[g] | ((min >> 4) << 6));
    bytes[g + 8] = static_cast<uint8_t>((scale & 0xf) | ((min & 0xf) << 4));
  }
}

// The scale and minimum of each group of a super-block, as six-bit multiples of d and dmin.
struct SuperFit {
  SuperScales packed;
  ScaleAndMin groups[kGroupsPerSuper];  // what decoding will use
};

constexpr float kSixBits = 63;

// Of the six-bit neighbours of a group's rounded scale and minimum, the best.
void RoundFit(Group w, float d, float dmin, int n_levels, int g, SuperFit* fit) {
  const float scale = RoundNearest(Clamp(fit->groups[g].scale * Inverse(d), 0, kSixBits));
  const float min = RoundNearest(Clamp(fit->groups[g].min * Inverse(dmin), 0, kSixBits));
  float best = -1;
  for (const float s : {scale - 1, scale, scale + 1}) {
    for (const float m : {min - 1, min, min + 1}) {
      if (s < 0 || s > kSixBits || m < 0 || m > kSixBits) continue;
      const ScaleAndMin candidate{d * s, dmin * m};
      const float error = FitError(w, candidate, n_levels);
      if (best >= 0 && !(error < best)) continue;
      best = error;
      fit->groups[g] = candidate;
      fit->packed.scales[g] = static_cast<uint8_t>(s);
      fit->packed.mins[g] = static_cast<uint8_t>(m);
    }
  }
}

// Fits the 8 groups of a super-block and stores d, dmin and the packed scales, which lie alike in
// Q4_K and Q5_K.
SuperFit FitSuperBlock(Group w, int n_levels, uint8_t* block) {
  SuperFit fit;
  float most_scale = 0, most_min = 0;
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    fit.groups[g] = FitScaleAndMin(w.subspan(g * kGroupElems, kGroupElems), n_levels);
    most_scale = std::max(most_scale, fit.groups[g].scale);
    most_min = std::max(most_min, fit.groups[g].min);
  }
  const float d = StoreScale(block + Q4_KLayout::kScale, most_scale / kSixBits);
  const float dmin = StoreScale(block + Q4_KLayout::kMinScale, most_min / kSixBits);
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    RoundFit(w.subspan(g * kGroupElems, kGroupElems), d, dmin, n_levels, g, &fit);
  }
  PackSuperScales(fit.packed, block + Q4_KLayout::kPacked);
  return fit;
}
static_assert(Q4_KLayout::kScale == Q5_KLayout::kScale &&
              Q4_KLayout::kMinScale == Q5_KLayout::kMinScale &&
              Q4_KLayout::kPacked == Q5_KLayout::kPacked);

void RoundGroup(Group w, const ScaleAndMin& fit, int n_levels, uint8_t* q) {
  const float inverse = Inverse(fit.scale);
  const auto top = static_cast<float>(n_levels - 1);
  for (int i = 0; i < kGroupElems; ++i) {
    q[i] = static_cast<uint8_t>(RoundNearest(Clamp(inverse * (w[i] + fit.min), 0, top)));
  }
}

void EncodeQ4_K(Group w, uint8_t* block) {
  constexpr int kLevels = 16;
  const SuperFit fit = FitSuperBlock(w, kLevels, block);
  for (int g = 0; g < kGroupsPerSuper; g += 2) {
    uint8_t low[kGroupElems], high[kGroupElems];
    RoundGroup(w.subspan(g * kGroupElems, kGroupElems), fit.groups[g], kLevels, low);
    RoundGroup(w.subspan((g + 1) * kGroupElems, kGroupElems), fit.groups[g + 1], kLevels, high);
    uint8_t* run = block + Q4_KLayout::kNibbles + g / 2 * kGroupElems;
    for (int i = 0; i < kGroupElems; ++i) run[i] = static_cast<uint8_t>(low[i] | (high[i] << 4));
  }
}

void EncodeQ5_K(Group w, uint8_t* block) {
  constexpr int kLevels = 32;
  const SuperFit fit = FitSuperBlock(w, kLevels, block);
  uint8_t* high = block + Q5_KLayout::kHigh;
  uint8_t* nibbles = block + Q5_KLayout::kNibbles;
  std::memset(high, 0, kGroupElems);
  std::memset(nibbles, 0, kSuperElems / 2);
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    uint8_t q[kGroupElems];
    RoundGroup(w.subspan(g * kGroupElems, kGroupElems), fit.groups[g], kLevels, q);
    for (int i = 0; i < kGroupElems; ++i) {
      nibbles[g / 2 * kGroupElems + i] |= static_cast<uint8_t>((q[i] & 0xf) << (g % 2 * 4));
      high[i] |= static_cast<uint8_t>((q[i] >> 4) << g);
    }
  }
}

constexpr int kQ6GroupElems = 16;
constexpr int kQ6Groups = kSuperElems / kQ6GroupElems;

void StoreQ6(int i, int q, uint8_t* block) {
  const int half = i / 128, g = i % 128 / kGroupElems, j = i % kGroupElems;
  block[Q6_KLayout::kLow + half * 64 + g % 2 * 32 + j] |=
      static_cast<uint8_t>((q & 0xf) << (g / 2 * 4));
  block[Q6_KLayout::kHigh + half * 32 + j] |= static_cast<uint8_t>((q >> 4) << (g * 2));
}

void EncodeQ6_K(Group w, uint8_t* block) {
  constexpr float kLevels = Q6_KLayout::kOffset;
  constexpr float kMaxScale = 127;
  float scales[kQ6Groups];
  for (int g = 0; g < kQ6Groups; ++g) {
    scales[g] = FitScale(w.subspan(g * kQ6GroupElems, kQ6GroupElems), Q6_KLayout::kOffset);
  }
  std::memset(block, 0, Q6_KLayout::kScales);
  const float d = StoreScale(block + Q6_KLayout::kScale, MaxMagnitude(scales) / kMaxScale);
  for (int g = 0; g < kQ6Groups; ++g) {
    const float scale = RoundNearest(Clamp(scales[g] * Inverse(d), -kMaxScale, kMaxScale));
    block[Q6_KLayout::kScales + g] = static_cast<uint8_t>(static_cast<int8_t>(scale));
    const float inverse = Inverse(d * scale);
    for (int i = g * kQ6GroupElems; i < (g + 1) * kQ6GroupElems; ++i) {
      const float q = RoundNearest(Clamp(w[i] * inverse, -kLevels, kLevels - 1)) + kLevels;
      StoreQ6(i, static_cast<int>(q), block);
    }
  }
}

template <typename EncodeBlock>
void ForEachBlock(DType dtype, std::span<const float> row, uint8_t* out, EncodeBlock encode) {
  const DTypeTraits traits = Traits(dtype);
  DCHECK(row.size() % traits.block_elems == 0);
  for (size_t i = 0; i < row.size(); i += traits.block_elems) {
    encode(row.subspan(i, traits.block_elems), out);
    out += traits.block_bytes;
  }
}

template <uint16_t (*Convert)(float)>
void EncodeHalves(std::span<const float> row, uint8_t* out) {
  for (size_t i = 0; i < row.size(); ++i) StoreHalf(out + i * 2, Convert(row[i]));
}

template <typename RoundTripBlock>
void RoundTrip(std::span<const float> row, int64_t block, float* y, RoundTripBlock round_trip) {
  for (size_t i = 0; i < row.size(); i += static_cast<size_t>(block)) {
    const Group w = row.subspan(i, std::min<size_t>(block, row.size() - i));
    round_trip(w, y + i);
  }
}

void RoundTripBlockSymmetric(Group w, float* y) {
  const float d = F16ToF32(F32ToF16(MaxMagnitude(w) / 127));
  const float inverse = Inverse(d);
  for (size_t i = 0; i < w.size(); ++i) {
    y[i] = d * RoundNearest(Clamp(w[i] * inverse, -127, 127));
  }
}

// The range includes 0, as those of real asymmetric quantisers do, so that 0 stays exact.
void RoundTripBlockAsymmetric(Group w, float* y) {
  float low = 0, high = 0;
  for (const float v : w) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const float d = F16ToF32(F32ToF16((high - low) / 255));
  const float inverse = Inverse(d);
  const float zero = RoundNearest(Clamp(-low * inverse, 0, 255));
  for (size_t i = 0; i < w.size(); ++i) {
    y[i] = d * (Clamp(RoundNearest(Clamp(w[i] * inverse, -255, 255)) + zero, 0, 255) - zero);
  }
}

}  // namespace

void QuantizeRow(DType dtype, std::span<const float> row, std::byte* out) {
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  switch (dtype) {
    case DType::kF32:
      if (!row.empty()) std::memcpy(bytes, row.data(), row.size_bytes());
      return;
    case DType::kF16:
      return EncodeHalves<F32ToF16>(row, bytes);
    case DType::kBF16:
      return EncodeHalves<F32ToBF16>(row, bytes);
    case DType::kQ8_0:
      return ForEachBlock(dtype, row, bytes, EncodeQ8_0);
    case DType::kQ4_0:
      return ForEachBlock(dtype, row, bytes, EncodeQ4_0);
    case DType::kQ4_K:
      return ForEachBlock(dtype, row, bytes, EncodeQ4_K);
    case DType::kQ5_K:
      return ForEachBlock(dtype, row, bytes, EncodeQ5_K);
    case DType::kQ6_K:
      return ForEachBlock(dtype, row, bytes, EncodeQ6_K);
    case DType::kFp8E4M3:
      return ForEachBlock(dtype, row, bytes, EncodeFp8Block<E4M3>);
    case DType::kFp8E5M2:
      return ForEachBlock(dtype, row, bytes, EncodeFp8Block<E5M2>);
    case DType::kI32:
      break;
  }
  CHECK(dtype != DType::kI32);
}

int64_t FirstNonFinite(std::span<const float> row) {
  for (size_t i = 0; i < row.size(); ++i) {
    if (!std::isfinite(row[i])) return static_cast<int64_t>(i);
  }
  return -1;
}

void RoundTripSymmetric8(std::span<const float> row, int64_t block, float* y) {
  RoundTrip(row, block, y, RoundTripBlockSymmetric);
}

void RoundTripAsymmetric8(std::span<const float> row, int64_t block, float* y) {
  RoundTrip(row, block, y, RoundTripBlockAsymmetric);
}

}  // namespace thermocline::kernels
