// The tensor type ids of GGUF files and of PowerInfer's dialect.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"
#include "model/gguf.h"

namespace thermocline::model {

// What a type id means. A type that exists but that Thermocline does not read has a name and no
// dtype; an id that means nothing has neither.
struct GgufTensorType {
  std::string_view name;
  std::optional<DType> dtype;
};
GgufTensorType TensorTypeOf(GgufDialect dialect, uint32_t type_id);

// The id that a file of `dialect` uses for `dtype`; nullopt for BF16 in PowerInfer's.
std::optional<uint32_t> TensorTypeId(GgufDialect dialect, DType dtype);

}  // namespace thermocline::model
