// Any bytes as a safetensors file.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto tensors = model::ReadSafetensors(*model::ReadFromMemory(bytes, "fuzz"));
  if (!tensors.ok()) return 0;
  uint64_t end = 0;
  for (const model::SafetensorsTensor& tensor : *tensors) {
    CHECK(tensor.offset_bytes >= end);
    end = tensor.offset_bytes + tensor.size_bytes;
    CHECK(end <= size);
    const auto type = model::SafetensorsWeightType(tensor);
    if (!type.ok()) continue;
    uint64_t n_bytes = Traits(*type).block_bytes;
    for (const int64_t dim : tensor.shape) n_bytes *= static_cast<uint64_t>(dim);
    CHECK(n_bytes == tensor.size_bytes);
  }
  return 0;
}
