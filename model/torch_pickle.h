// The pickle inside a PyTorch file that holds one tensor: what the tensor is and where its numbers
// are. Nothing is executed; every opcode and class beyond what a tensor takes is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

enum class TorchType : uint8_t { kInt32, kInt64, kFloat32, kFloat64 };
constexpr size_t TorchTypeBytes(TorchType type) {
  return type == TorchType::kInt32 || type == TorchType::kFloat32 ? 4 : 8;
}

struct TorchTensor {
  TorchType type = TorchType::kFloat32;
  std::string storage_key;  // the member "data/<key>" of the archive
  int64_t offset_elems = 0;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements
};

// kInvalidArgument: an opcode, class or type that a plain tensor does not have, or more than
// kMaxPickleValues; kDataLoss: cut off, or its stack does not add up.
Result<TorchTensor> ReadTorchPickle(std::span<const std::byte> bytes);
inline constexpr size_t kMaxPickleValues = 1024;  // a tensor takes about 20

}  // namespace thermocline::model
