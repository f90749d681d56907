// Scalar decoding of every weight type: the oracle of the vector decoders.
#include <cstring>

#include "base/check.h"
#include "base/half.h"
#include "kernels/blocks.h"
#include "kernels/device.h"
#include "kernels/fp8.h"
#include "kernels/lanes.h"

namespace thermocline::kernels {
namespace {

float LoadHalf(const uint8_t* bytes) { return F16ToF32(LoadU16(bytes)); }

void DecodeQ8_0(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Q8_0Layout::kScale);
  for (int i = 0; i < kGroupElems; ++i) {
    out[i] = d * static_cast<float>(static_cast<int8_t>(block[Q8_0Layout::kQuants + i]));
  }
}

void DecodeQ4_0(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Q4_0Layout::kScale);
  for (int i = 0; i < kGroupElems / 2; ++i) {
    const uint8_t byte = block[Q4_0Layout::kNibbles + i];
    out[i] = d * static_cast<float>((byte & 0xf) - Q4_0Layout::kOffset);
    out[i + kGroupElems / 2] = d * static_cast<float>((byte >> 4) - Q4_0Layout::kOffset);
  }
}

// Group g of Q4_K or Q5_K: `high` is null or the bytes whose bit g is the fifth bit.
void DecodeNibbleGroup(const uint8_t* nibbles, const uint8_t* high, int g, float scale, float min,
                       float* out) {
  const uint8_t* run = nibbles + g / 2 * kGroupElems;
  for (int i = 0; i < kGroupElems; ++i) {
    int q = (run[i] >> (g % 2 * 4)) & 0xf;
    if (high != nullptr) q |= ((high[i] >> g) & 1) << 4;
    out[i] = scale * static_cast<float>(q) - min;
  }
}

void DecodeQ4_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Q4_KLayout::kScale);
  const float dmin = LoadHalf(block + Q4_KLayout::kMinScale);
  const SuperScales packed = UnpackSuperScales(block + Q4_KLayout::kPacked);
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    DecodeNibbleGroup(block + Q4_KLayout::kNibbles, nullptr, g, d * packed.scales[g],
                      dmin * packed.mins[g], out + g * kGroupElems);
  }
}

void DecodeQ5_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Q5_KLayout::kScale);
  const float dmin = LoadHalf(block + Q5_KLayout::kMinScale);
  const SuperScales packed = UnpackSuperScales(block + Q5_KLayout::kPacked);
  for (int g = 0; g < kGroupsPerSuper; ++g) {
    DecodeNibbleGroup(block + Q5_KLayout::kNibbles, block + Q5_KLayout::kHigh, g,
                      d * packed.scales[g], dmin * packed.mins[g], out + g * kGroupElems);
  }
}

void DecodeQ6_K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Q6_KLayout::kScale);
  for (int i = 0; i < kSuperElems; ++i) {
    const int half = i / 128, g = i % 128 / kGroupElems, j = i % kGroupElems;
    const uint8_t low = block[Q6_KLayout::kLow + half * 64 + g % 2 * 32 + j];
    const uint8_t high = block[Q6_KLayout::kHigh + half * 32 + j];
    const int q = ((low >> (g / 2 * 4)) & 0xf) | (((high >> (g * 2)) & 3) << 4);
    const auto scale = static_cast<int8_t>(block[Q6_KLayout::kScales + i / 16]);
    out[i] = d * static_cast<float>(scale) * static_cast<float>(q - Q6_KLayout::kOffset);
  }
}

template <float (*kDecode)(uint8_t)>
void DecodeFp8(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + Fp8Layout::kScale);
  for (int i = 0; i < kGroupElems; ++i) out[i] = d * kDecode(block[Fp8Layout::kQuants + i]);
}

template <typename DecodeBlock>
void ForEachBlock(DType dtype, const uint8_t* row, int64_t n_elems, float* out,
                  DecodeBlock decode) {
  const DTypeTraits traits = Traits(dtype);
  DCHECK(n_elems % traits.block_elems == 0);
  for (int64_t i = 0; i < n_elems; i += traits.block_elems) {
    decode(row, out + i);
    row += traits.block_bytes;
  }
}

}  // namespace

void DequantizeRow(const TensorView& w, int64_t i, float* out) {
  if (w.layout == RowLayout::kLanes) return DequantizeLanesRow(w.dtype, w.row(i), w.n_cols, out);
  DequantizeRow(w.dtype, w.row(i), w.n_cols, out);
}

void DequantizeRow(DType dtype, const std::byte* row, int64_t n_elems, float* out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(row);
  switch (dtype) {
    case DType::kF32:
      if (n_elems > 0) std::memcpy(out, bytes, static_cast<size_t>(n_elems) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n_elems; ++i) out[i] = LoadHalf(bytes + i * 2);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n_elems; ++i) out[i] = BF16ToF32(LoadU16(bytes + i * 2));
      return;
    case DType::kQ8_0:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeQ8_0);
    case DType::kQ4_0:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeQ4_0);
    case DType::kQ4_K:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeQ4_K);
    case DType::kQ5_K:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeQ5_K);
    case DType::kQ6_K:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeQ6_K);
    case DType::kFp8E4M3:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeFp8<DecodeE4M3>);
    case DType::kFp8E5M2:
      return ForEachBlock(dtype, bytes, n_elems, out, DecodeFp8<DecodeE5M2>);
    case DType::kI32:
      for (int64_t i = 0; i < n_elems; ++i) {
        out[i] = static_cast<float>(static_cast<int32_t>(LoadU32(bytes + i * 4)));
      }
      return;
  }
}

}  // namespace thermocline::kernels
