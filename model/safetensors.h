// Reads the header of a safetensors file: which tensors it has and where their bytes lie.
//
// Source: github.com/huggingface/safetensors README, "Format": a u64 length, that much JSON, then
// the tensors' bytes without gaps.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

// The format's own bound.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
// Deepest nesting of the JSON: the format has objects in an object with arrays in them.
inline constexpr int kMaxSafetensorsDepth = 8;

struct SafetensorsTensor {
  std::string name;
  std::string type;            // as the file spells it: "BF16"
  std::vector<int64_t> shape;  // outermost first; empty for a single value
  uint64_t offset_bytes = 0;   // from the start of the file
  uint64_t size_bytes = 0;
};

// The tensors in the order of their bytes. Every tensor lies inside the file, has the size of its
// shape where its type is a known one, and overlaps no other. kDataLoss: cut short, or the header
// contradicts itself; kInvalidArgument: not a safetensors file, or beyond a bound.
Result<std::vector<SafetensorsTensor>> ReadSafetensors(const RangeReader& reader);

// "F32", "F16" or "BF16"; kInvalidArgument names any other.
Result<DType> SafetensorsWeightType(const SafetensorsTensor& tensor);

}  // namespace thermocline::model
