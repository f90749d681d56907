#include "tests/support/gguf_image.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "model/gguf_types.h"

namespace thermocline::testing {
namespace {

uint32_t Id(GgufValueType type) { return static_cast<uint32_t>(type); }

template <typename T>
std::string PackedArray(GgufValueType type, const std::vector<T>& values) {
  std::string bytes = Packed(Id(type)) + Packed(uint64_t{values.size()});
  for (const T& value : values) bytes += Packed(value);
  return bytes;
}

template <typename T>
uint64_t DataBytes(DType dtype, const std::vector<T>& shape) {
  uint64_t n_rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n_rows *= static_cast<uint64_t>(shape[i]);
  return n_rows * RowBytes(dtype, static_cast<uint64_t>(shape.back()));
}

}  // namespace

std::string PackedString(std::string_view text) {
  return Packed(uint64_t{text.size()}) + std::string(text);
}

GgufImage GgufImage::Of(GgufDialect dialect) {
  GgufImage image;
  if (dialect == GgufDialect::kPowerInfer) image.magic = "PWRI";
  return image;
}

GgufImage& GgufImage::AddRaw(std::string_view key, uint32_t type, std::string payload) {
  keys.push_back({std::string(key), type, std::move(payload)});
  return *this;
}
GgufImage& GgufImage::AddU32(std::string_view key, uint32_t value) {
  return AddRaw(key, Id(GgufValueType::kU32), Packed(value));
}
GgufImage& GgufImage::AddI32(std::string_view key, int32_t value) {
  return AddRaw(key, Id(GgufValueType::kI32), Packed(value));
}
GgufImage& GgufImage::AddU64(std::string_view key, uint64_t value) {
  return AddRaw(key, Id(GgufValueType::kU64), Packed(value));
}
GgufImage& GgufImage::AddF32(std::string_view key, float value) {
  return AddRaw(key, Id(GgufValueType::kF32), Packed(value));
}
GgufImage& GgufImage::AddBool(std::string_view key, bool value) {
  return AddRaw(key, Id(GgufValueType::kBool), Packed(uint8_t{value}));
}
GgufImage& GgufImage::AddString(std::string_view key, std::string_view value) {
  return AddRaw(key, Id(GgufValueType::kString), PackedString(value));
}
GgufImage& GgufImage::AddStrings(std::string_view key, const std::vector<std::string>& values) {
  std::string payload = Packed(Id(GgufValueType::kString)) + Packed(uint64_t{values.size()});
  for (const std::string& value : values) payload += PackedString(value);
  return AddRaw(key, Id(GgufValueType::kArray), std::move(payload));
}
GgufImage& GgufImage::AddF32s(std::string_view key, const std::vector<float>& values) {
  return AddRaw(key, Id(GgufValueType::kArray), PackedArray(GgufValueType::kF32, values));
}
GgufImage& GgufImage::AddI32s(std::string_view key, const std::vector<int32_t>& values) {
  return AddRaw(key, Id(GgufValueType::kArray), PackedArray(GgufValueType::kI32, values));
}
GgufImage& GgufImage::AddU32s(std::string_view key, const std::vector<uint32_t>& values) {
  return AddRaw(key, Id(GgufValueType::kArray), PackedArray(GgufValueType::kU32, values));
}

GgufImage& GgufImage::AddTensor(std::string_view name, DType dtype,
                                const std::vector<int64_t>& shape, std::string data) {
  const GgufDialect dialect = magic == "PWRI" ? GgufDialect::kPowerInfer : GgufDialect::kGguf;
  const std::optional<uint32_t> type_id = model::TensorTypeId(dialect, dtype);
  CHECK(type_id.has_value());
  CHECK(shape.back() % Traits(dtype).block_elems == 0);
  CHECK(data.size() == DataBytes(dtype, shape));
  GgufTensor tensor;
  tensor.name = name;
  tensor.dims.assign(shape.rbegin(), shape.rend());
  tensor.type_id = *type_id;
  tensor.data = std::move(data);
  tensors.push_back(std::move(tensor));
  return *this;
}

GgufImage& GgufImage::AddZeros(std::string_view name, DType dtype,
                               const std::vector<int64_t>& shape) {
  return AddTensor(name, dtype, shape, std::string(DataBytes(dtype, shape), '\0'));
}

GgufKeyValue& GgufImage::Key(std::string_view key) {
  const auto found = std::find_if(keys.begin(), keys.end(),
                                  [&](const GgufKeyValue& entry) { return entry.key == key; });
  CHECK(found != keys.end());
  return *found;
}

GgufTensor& GgufImage::Tensor(std::string_view name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const GgufTensor& tensor) { return tensor.name == name; });
  CHECK(found != tensors.end());
  return *found;
}

void GgufImage::RemoveKey(std::string_view key) {
  CHECK(std::erase_if(keys, [&](const GgufKeyValue& entry) { return entry.key == key; }) == 1);
}

void GgufImage::RemoveTensor(std::string_view name) {
  CHECK(std::erase_if(tensors, [&](const GgufTensor& t) { return t.name == name; }) == 1);
}

std::vector<uint64_t> GgufImage::Offsets() const {
  std::vector<uint64_t> offsets;
  uint64_t next = 0;
  for (const GgufTensor& tensor : tensors) {
    offsets.push_back(tensor.offset.value_or(next));
    next = RoundUp(next + tensor.data.size(), alignment);
  }
  return offsets;
}

std::string GgufImage::InfoBytes() const {
  const std::vector<uint64_t> offsets = Offsets();
  std::string bytes;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = tensors[i];
    bytes += PackedString(tensor.name);
    bytes += Packed(tensor.n_dims.value_or(static_cast<uint32_t>(tensor.dims.size())));
    for (const int64_t dim : tensor.dims) bytes += Packed(dim);
    bytes += Packed(tensor.type_id) + Packed(offsets[i]);
  }
  return bytes;
}

std::string GgufImage::HeaderBytes() const {
  std::string bytes = magic + Packed(version) + Packed(n_tensors.value_or(tensors.size())) +
                      Packed(n_keys.value_or(keys.size()));
  for (const GgufKeyValue& entry : keys) {
    bytes += PackedString(entry.key) + Packed(entry.type) + entry.payload;
  }
  return bytes + InfoBytes();
}

// Data lies where it would without offset lies, so that a lie never changes the file's length.
std::vector<std::byte> GgufImage::Bytes() const {
  std::string bytes = HeaderBytes();
  for (const GgufTensor& tensor : tensors) {
    bytes.resize(RoundUp(bytes.size(), alignment));
    bytes += tensor.data;
  }
  std::vector<std::byte> out(bytes.size());
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace thermocline::testing
