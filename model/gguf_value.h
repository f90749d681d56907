// The typed values of GGUF metadata, as they lie in a file.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "model/gguf.h"
#include "model/gguf_cursor.h"

namespace thermocline::model {

// Source: github.com/ggml-org/ggml docs/gguf.md, gguf_metadata_value_type.
enum class GgufValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};
inline constexpr uint32_t kNumGgufValueTypes = 13;

std::string_view GgufValueTypeName(GgufValueType type);

// A type id and the value behind it. kInvalidArgument for an unknown type, a nested array or an
// array above kMaxArrayElems; kDataLoss when the file ends inside the value or a bool is not 0
// or 1.
Status ReadGgufValue(GgufCursor& cursor, GgufValueType* type, GgufValue* value);

}  // namespace thermocline::model
