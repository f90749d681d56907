// Writes GGUF files for tests: valid ones, and ones that lie in a chosen field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "model/gguf.h"
#include "model/gguf_value.h"

namespace thermocline::testing {

using model::GgufDialect;
using model::GgufValueType;

// One metadata entry as it lies in the file.
struct GgufKeyValue {
  std::string key;
  uint32_t type = 0;
  std::string payload;  // the bytes after the type
};

// One tensor as it lies in the file.
struct GgufTensor {
  std::string name;
  std::vector<int64_t> dims;  // file order: innermost first
  uint32_t type_id = 0;
  std::string data;
  std::optional<uint32_t> n_dims;  // instead of dims.size()
  std::optional<uint64_t> offset;  // in the data section, instead of the next aligned place
};

// A file as its fields. Fill it by the Add functions, change what a test wants to be wrong, and
// take the bytes. The optionals replace what is otherwise counted.
class GgufImage {
 public:
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> n_tensors;
  std::optional<uint64_t> n_keys;
  uint64_t alignment = 32;
  std::vector<GgufKeyValue> keys;
  std::vector<GgufTensor> tensors;

  static GgufImage Of(GgufDialect dialect);

  GgufImage& AddU32(std::string_view key, uint32_t value);
  GgufImage& AddI32(std::string_view key, int32_t value);
  GgufImage& AddU64(std::string_view key, uint64_t value);
  GgufImage& AddF32(std::string_view key, float value);
  GgufImage& AddBool(std::string_view key, bool value);
  GgufImage& AddString(std::string_view key, std::string_view value);
  GgufImage& AddStrings(std::string_view key, const std::vector<std::string>& values);
  GgufImage& AddF32s(std::string_view key, const std::vector<float>& values);
  GgufImage& AddI32s(std::string_view key, const std::vector<int32_t>& values);
  GgufImage& AddU32s(std::string_view key, const std::vector<uint32_t>& values);
  GgufImage& AddRaw(std::string_view key, uint32_t type, std::string payload);
  // `shape` is outermost first; `data` has its size.
  GgufImage& AddTensor(std::string_view name, DType dtype, const std::vector<int64_t>& shape,
                       std::string data);
  // The same, filled with zeros.
  GgufImage& AddZeros(std::string_view name, DType dtype, const std::vector<int64_t>& shape);

  GgufKeyValue& Key(std::string_view key);
  GgufTensor& Tensor(std::string_view name);
  void RemoveKey(std::string_view key);
  void RemoveTensor(std::string_view name);

  // Where the metadata and the tensor infos end.
  std::string HeaderBytes() const;
  std::vector<std::byte> Bytes() const;

 private:
  std::vector<uint64_t> Offsets() const;
  std::string InfoBytes() const;
};

// The little-endian bytes of a number; a string with its length in front.
template <typename T>
std::string Packed(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string PackedString(std::string_view text);

}  // namespace thermocline::testing
