#include "model/gguf_metadata.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/gguf.h"
#include "model/gguf_cursor.h"
#include "model/gguf_parser.h"
#include "model/gguf_value.h"

namespace thermocline::model {
namespace {

// The little-endian bytes of a number.
template <typename T>
std::string Packed(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
std::string PackedText(std::string_view text) {
  return Packed(uint64_t{text.size()}) + std::string(text);
}
std::string PackedType(GgufValueType type) { return Packed(static_cast<uint32_t>(type)); }

template <typename T>
std::string PackedArray(GgufValueType type, std::span<const T> values) {
  std::string bytes =
      PackedType(GgufValueType::kArray) + PackedType(type) + Packed(uint64_t{values.size()});
  if (values.empty()) return bytes;
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return bytes;
}

// The bytes of the value at the cursor, which then stands behind it.
Result<std::string> CopyValue(const RangeReader& reader, GgufCursor& cursor) {
  const uint64_t begin = cursor.position();
  GgufValueType type{};
  GgufValue value;
  TC_RETURN_IF_ERROR(ReadGgufValue(cursor, &type, &value));
  std::string bytes(cursor.position() - begin, '\0');
  TC_RETURN_IF_ERROR(reader.Read(begin, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

}  // namespace

Result<GgufMetadata> GgufMetadata::CopyOf(const RangeReader& reader) {
  TC_RETURN_IF_ERROR(GgufFile::Parse(reader).status());
  GgufCursor cursor(reader);
  uint32_t magic = 0, version = 0;
  uint64_t n_tensors = 0, n_keys = 0;
  TC_RETURN_IF_ERROR(cursor.Read(&magic));
  TC_RETURN_IF_ERROR(cursor.Read(&version));
  TC_RETURN_IF_ERROR(cursor.Read(&n_tensors));
  TC_RETURN_IF_ERROR(cursor.Read(&n_keys));
  GgufMetadata copy;
  for (uint64_t i = 0; i < n_keys; ++i) {
    std::string key;
    TC_RETURN_IF_ERROR(cursor.ReadString(1, kMaxKeyBytes, &key));
    TC_ASSIGN_OR_RETURN(std::string value, CopyValue(reader, cursor));
    copy.entries_.push_back({std::move(key), std::move(value)});
  }
  return copy;
}

void GgufMetadata::Set(std::string_view key, std::string value) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.key == key; });
  if (found == entries_.end()) {
    entries_.push_back({std::string(key), std::move(value)});
  } else {
    found->value = std::move(value);
  }
}

void GgufMetadata::SetU32(std::string_view key, uint32_t value) {
  Set(key, PackedType(GgufValueType::kU32) + Packed(value));
}
void GgufMetadata::SetI32(std::string_view key, int32_t value) {
  Set(key, PackedType(GgufValueType::kI32) + Packed(value));
}
void GgufMetadata::SetU64(std::string_view key, uint64_t value) {
  Set(key, PackedType(GgufValueType::kU64) + Packed(value));
}
void GgufMetadata::SetF32(std::string_view key, float value) {
  Set(key, PackedType(GgufValueType::kF32) + Packed(value));
}
void GgufMetadata::SetBool(std::string_view key, bool value) {
  Set(key, PackedType(GgufValueType::kBool) + Packed(static_cast<uint8_t>(value)));
}
void GgufMetadata::SetString(std::string_view key, std::string_view value) {
  Set(key, PackedType(GgufValueType::kString) + PackedText(value));
}
void GgufMetadata::SetU32s(std::string_view key, std::span<const uint32_t> values) {
  Set(key, PackedArray(GgufValueType::kU32, values));
}
void GgufMetadata::SetI32s(std::string_view key, std::span<const int32_t> values) {
  Set(key, PackedArray(GgufValueType::kI32, values));
}
void GgufMetadata::SetF32s(std::string_view key, std::span<const float> values) {
  Set(key, PackedArray(GgufValueType::kF32, values));
}
void GgufMetadata::SetStrings(std::string_view key, std::span<const std::string> values) {
  std::string bytes = PackedType(GgufValueType::kArray) + PackedType(GgufValueType::kString) +
                      Packed(uint64_t{values.size()});
  for (const std::string& value : values) bytes += PackedText(value);
  Set(key, std::move(bytes));
}

bool GgufMetadata::Has(std::string_view key) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& e) { return e.key == key; });
}

bool GgufMetadata::Remove(std::string_view key) {
  return std::erase_if(entries_, [&](const Entry& e) { return e.key == key; }) > 0;
}

std::string GgufMetadata::Encode() const {
  std::string bytes;
  for (const Entry& entry : entries_) bytes += PackedText(entry.key) + entry.value;
  return bytes;
}

}  // namespace thermocline::model
